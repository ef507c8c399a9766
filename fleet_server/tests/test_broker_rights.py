"""What a terminal's certificate can do at a real Mosquitto, and what it cannot (security tests S10, S11)."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fleet_server import db, queries
from fleet_server.tests.real_fleet import RealFleet, TestTerminal, until
from wire import fields, topics
from wire.messages import Mark, Presence
from wire.topics import Down, Up

pytestmark = pytest.mark.bench

TRICKS = (
    "#", "+/#", "fl/#", "fl/v1/#", "fl/v1/+/dn/#", "fl/v1/+/up/#", "fl/v1/b-1/#", "fl/v1/b-1/dn/#", "fl/v1/b-1/dn/mark",
    "fl/v1/b-1/up/#", "$share/g/#", "$share/g/fl/v1/+/dn/#", "$share/g/fl/v1/b-1/dn/#", "$share/fl/v1/b-1/dn/#",
    "$SYS/#", "$SYS/broker/clients/connected", "fl/v1/a-1/dn/../../b-1/dn/#", "/fl/v1/b-1/dn/#", "fl/v1//dn/#",
    "fl/v1/a-1/up/#", "fl/v1/server.ingest/#", "+/+/+/dn/#", "fl/v1/a-1/+/#",
)  # fmt: skip


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFleet]:
    fleet = RealFleet(tmp_path_factory.mktemp("rights") / "fleet", "--mark-interval", "2")
    try:
        for role in ("broker", "est", "ingest"):
            fleet.start(role)
        yield fleet
    finally:
        fleet.stop_all()


def timeline(fleet: RealFleet, serial: str) -> list[str]:
    engine = db.open_engine(fleet.config.database)
    with db.reading(engine) as connection:
        kinds = [event.kind for event in queries.timeline(connection, serial)]
    engine.dispose()
    return kinds


def test_no_subscription_of_one_terminal_hears_another_under_traffic(fleet: RealFleet) -> None:
    spy, victim = (TestTerminal(fleet, fleet.enrol(serial)) for serial in ("a-1", "b-1"))
    for trick in TRICKS:
        spy.subscribe(trick)
    for terminal in (spy, victim):
        assert terminal.subscribe(topics.down_filter(terminal.serial)) == 1
    for terminal in (spy, victim):
        terminal.birth()
    until(lambda: len(victim.marks()) >= 3 and len(spy.marks()) >= 3)
    own = topics.down("a-1", Down.MARK)
    assert {topic for topic, _ in spy.received} == {own}
    spy.close()
    victim.close()


def test_one_terminal_cannot_speak_as_another_nor_as_the_server(fleet: RealFleet) -> None:
    liar, victim = (TestTerminal(fleet, fleet.enrol(serial)) for serial in ("a-2", "b-2"))
    assert victim.subscribe(topics.down_filter("b-2")) == 1
    false_mark = fields.encode(Mark(journal=b"x" * 16, stored=10**6, server_ms=0, resync=False))
    for topic in (
        topics.up("b-2", Up.STATE), topics.down("b-2", Down.MARK), topics.down("a-2", Down.MARK), "$SYS/broker/x",
        "fl/v1/b-2", "fl/v1/a-2/up/../../b-2/up/state", "fl/v1/server.ingest/dn/mark",
    ):  # fmt: skip
        body = fields.encode(victim.state(Presence.LOST)) if topic.endswith("state") else false_mark
        liar.publish(topic, body)
    liar.birth()
    until(lambda: "online" in timeline(fleet, "a-2"))
    assert timeline(fleet, "b-2") == ["enrolled", "added"]
    victim.birth()
    until(lambda: len(victim.marks()) >= 1)
    assert b"x" * 16 not in {mark.journal for mark in victim.marks()}
    liar.close()
    victim.close()


def test_a_client_id_or_user_name_of_another_changes_nothing(fleet: RealFleet) -> None:
    """The name is the certificate's, whatever CONNECT says; a take-over of another's session is not possible."""
    liar, victim = fleet.enrol("a-3"), TestTerminal(fleet, fleet.enrol("b-3"))
    victim.subscribe(topics.down_filter("b-3"))
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "b-3", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set(str(fleet.config.layout.ca_certificate), str(liar.certificate), str(liar.key))
    client.username_pw_set("b-3", "x")
    client.connect("localhost", fleet.config.broker.port)
    client.loop_start()
    client.publish(topics.up("b-3", Up.STATE), fields.encode(victim.state(Presence.BIRTH)), qos=1)
    client.publish(topics.up("a-3", Up.STATE), fields.encode(victim.state(Presence.BIRTH)), qos=1)
    until(lambda: "online" in timeline(fleet, "a-3"))
    assert timeline(fleet, "b-3") == ["enrolled", "added"]
    victim.birth()
    until(lambda: len(victim.marks()) >= 1)
    client.disconnect()
    client.loop_stop()
    victim.close()


@pytest.mark.parametrize("who", ["no certificate", "our own server's certificate", "another installation's terminal"])
def test_the_broker_lets_nobody_else_in(fleet: RealFleet, tmp_path: Path, who: str) -> None:
    layout = fleet.config.layout
    context = ssl.create_default_context(cafile=str(layout.ca_certificate))
    if who == "our own server's certificate":
        context.load_cert_chain(layout.certificate("est"), layout.key("est"))
    elif who == "another installation's terminal":
        other = RealFleet(tmp_path / "other")
        context.load_cert_chain(other.config.layout.certificate("ingest"), other.config.layout.key("ingest"))
    client = mqtt.Client(CallbackAPIVersion.VERSION2, "x", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context)
    connected: list[bool] = []
    client.on_connect = lambda *arguments: connected.append(not arguments[3].is_failure)
    with pytest.raises((ssl.SSLError, OSError)):  # noqa: PT012 - the refusal comes with the handshake or after it
        client.connect("localhost", fleet.config.broker.port)
        while client.loop(timeout=1) == mqtt.MQTT_ERR_SUCCESS:
            pass
        raise ConnectionResetError
    assert True not in connected

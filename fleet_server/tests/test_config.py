from __future__ import annotations

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet_server import config, db, installation
from fleet_server.broker import mosquitto
from fleet_server.config import BrokerConfig, Config, EstConfig, IngestConfig, WebConfig
from fleet_server.errors import ConfigError, RequestRefusedError
from fleet_server.queries import data_version

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def some_config(data_dir: Path) -> Config:
    return Config(
        data_dir=data_dir,
        web=WebConfig(port=1001),
        est=EstConfig(port=1002),
        broker=BrokerConfig(port=1003),
        ingest=IngestConfig(metrics_port=1004, mark_interval_s=7),
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    made = some_config(tmp_path)
    assert config.parse(config.render(made), tmp_path) == made


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = """
    colour = "red"
    [web]
    port = 0
    [est]
    port = "443"
    code_life = 5
    [broker]
    port = 1
    engine = "other"
    """
    with pytest.raises(ConfigError) as refused:
        config.parse(text, tmp_path)
    assert refused.value.problems == [
        "web.port: must be 1 to 65535",
        "est.port: must be a whole number",
        "est.code_life: unknown",
        "ingest.metrics_port: missing",
        "colour: unknown",
        "broker.engine: only mosquitto is known",
    ]


def test_a_certificate_without_its_key_is_refused_and_both_make_the_url_https(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="go together"):
        config.parse(config.render(with_tls("web.pem", "")), tmp_path)
    assert config.parse(config.render(with_tls("web.pem", "web.key")), tmp_path).web.url == "https://127.0.0.1:1001"


def test_the_url_has_the_first_name_and_brackets_and_never_the_address_of_all_interfaces(tmp_path: Path) -> None:
    def url(host: str, *names: str) -> str:
        made = with_tls("web.pem", "web.key", host=host, names=names)
        assert config.parse(config.render(made), tmp_path).web == made.web
        return made.web.url

    assert url("0.0.0.0", "fleet.example.ir", "other.example.ir") == "https://fleet.example.ir:1001"  # noqa: S104 - only read
    assert url("::", "2001:db8::1") == "https://[2001:db8::1]:1001"
    assert url("2001:db8::2") == "https://[2001:db8::2]:1001"
    assert url("0.0.0.0") == url("::") == "https://localhost:1001"  # noqa: S104 - only read


@pytest.mark.parametrize(
    "names", ['"one.example"', "[1]", '["two words"]', '["a/b"]', '[""]', '["x:8000"]', '["[::1]"]']
)
def test_what_cannot_be_a_host_name_is_no_name(tmp_path: Path, names: str) -> None:
    text = config.render(with_tls("", "")).replace("names = []", f"names = {names}")
    with pytest.raises(ConfigError) as refused:
        config.parse(text, tmp_path)
    assert refused.value.problems == ["web.names: must be a list of host names or addresses"]


def with_tls(certificate: str, key: str, *, host: str = "127.0.0.1", names: tuple[str, ...] = ()) -> Config:
    web = WebConfig(port=1001, host=host, names=names, tls_certificate=certificate, tls_key=key)
    return Config(
        data_dir=Path("/d"),
        web=web,
        est=EstConfig(port=1002),
        broker=BrokerConfig(port=1003),
        ingest=IngestConfig(metrics_port=1004),
    )


def test_true_is_not_a_number_and_rubbish_is_not_toml(tmp_path: Path) -> None:
    for text in ("[web]\nport = true", "[web", "web = 1"):
        with pytest.raises(ConfigError):
            config.parse(text, tmp_path)


def test_a_new_installation_is_whole_private_and_ready(tmp_path: Path) -> None:
    made = some_config(tmp_path / "fleet")
    installation.create(made, now=NOW, chance=lambda count: b"\1" * count)
    loaded = config.load(tmp_path / "fleet")
    assert loaded == made
    assert stat.S_IMODE(made.data_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.data_dir.iterdir()} == {0o600}
    assert installation.authority(loaded.layout).certificate.subject
    engine = db.open_engine(loaded.database)
    with db.reading(engine) as connection:
        assert data_version(connection) == 1
    engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == ["fleet"]


def test_an_installation_is_never_made_over_another(tmp_path: Path) -> None:
    installation.create(some_config(tmp_path / "fleet"), now=NOW, chance=lambda count: b"\1" * count)
    before = (tmp_path / "fleet" / "ca.pem").read_bytes()
    with pytest.raises(RequestRefusedError):
        installation.create(some_config(tmp_path / "fleet"), now=NOW, chance=lambda count: b"\2" * count)
    assert (tmp_path / "fleet" / "ca.pem").read_bytes() == before


def test_a_failed_installation_leaves_nothing_behind(tmp_path: Path) -> None:
    def no_chance(_: int) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        installation.create(some_config(tmp_path / "fleet"), now=NOW, chance=no_chance)
    assert list(tmp_path.iterdir()) == []


def test_a_ca_key_of_another_ca_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        installation.create(some_config(tmp_path / name), now=NOW, chance=lambda count: b"\1" * count)
    (tmp_path / "one" / "ca.key").write_bytes((tmp_path / "two" / "ca.key").read_bytes())
    with pytest.raises(ConfigError):
        installation.authority(config.load(tmp_path / "one").layout)


def test_the_broker_lets_in_only_certificates_and_only_to_their_own_topics(tmp_path: Path) -> None:
    lines = mosquitto.render(some_config(tmp_path), user="someone").splitlines()
    for line in (
        "require_certificate true", "use_identity_as_username true", "use_username_as_clientid true",
        "allow_anonymous false", "listener 1003 127.0.0.1", "set_tcp_nodelay true", "retain_available false",
    ):  # fmt: skip
        assert line in lines
    rules = [line for line in mosquitto.ACL.splitlines() if line and not line.startswith("#")]
    assert rules == [
        "pattern write fl/v1/%u/up/#",
        "pattern read fl/v1/%u/dn/#",
        "user server.ingest",
        "topic read fl/v1/+/up/#",
        "topic write fl/v1/+/dn/#",
    ]

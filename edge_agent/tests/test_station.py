"""One visit against the simulated card, exchange and registry, in one process: it ends in an assertion or in none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.cards.errors import (
    CardError,
    CardExpiredError,
    CardGoneError,
    CardNotAuthenticError,
    CardNotGenuineError,
    CardUnsupportedError,
)
from edge_agent.cards.trust import TrustList
from edge_agent.clock import TrustedClock
from edge_agent.errors import InquiryError
from edge_agent.inquiry import Granted, Inquiry
from edge_agent.station import Asked, Asserted, Trusted, serve_card
from edge_agent.tests.doors import door
from tools.simulators import issuer
from tools.simulators.card.memory import VolatileMemory
from tools.simulators.card.system import CardSystem
from tools.simulators.party import tls
from tools.simulators.registry.tests.world import AUDIENCE, BASIS, START_MS, World, counted
from wire import assertion, cose, inquiry
from wire.failures import Failure
from wire.inquiry import CardStatus

SEED = 4711
SALT = counted("salt")
ASKED = Asked("v1", AUDIENCE, "notary", "notary.deed", BASIS, "1405/2417", 2)


@dataclass
class Slot:
    """A reader with one simulated card, which may leave at its k-th command."""

    card: CardSystem
    gone_at: int = 10**9
    commands: list[bytes] = field(default_factory=list)

    async def transmit(self, command: bytes) -> bytes:
        self.commands.append(command)
        if len(self.commands) >= self.gone_at:
            raise CardGoneError("torn out")
        return self.card.process(command).to_bytes()


@dataclass
class FailingRegistry:
    """The real door, which fails at its k-th call (from 1), after the other side has heard it."""

    inner: Inquiry
    fails_at: int
    calls: int = 0

    async def _count(self, answer: Any) -> Any:
        self.calls += 1
        if self.calls == self.fails_at:
            raise InquiryError(Failure.REGISTRY_UNREACHABLE, "cut")
        return answer

    async def open_inquiry(self, **what: Any) -> Any:
        return await self._count(await self.inner.open_inquiry(**what))

    async def obtain(self, challenge: Any, **what: Any) -> Any:
        return await self._count(await self.inner.obtain(challenge, **what))


@pytest.fixture(scope="module")
def terminal_ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.authority(tmp_path_factory.mktemp("fleet-ca"), "SIMULATED fleet", now_ms=START_MS)


@pytest.fixture
async def world(tmp_path: Path, terminal_ca: tls.Authority) -> AsyncIterator[World]:
    made = World(tmp_path, terminal_ca)
    yield made
    await made.close()


@pytest.fixture
def registry(world: World) -> Inquiry:
    """One door for all visits of a test: its chance never repeats."""
    return door(world)


def slot(defect: issuer.Defect | None = None) -> Slot:
    return Slot(CardSystem(issuer.personalise(SEED, defect), VolatileMemory()))


async def visit(world: World, at: Slot, registry: Any, *, asked: Asked = ASKED, atr: bytes = b"") -> Asserted:
    clock = TrustedClock(lambda: 0.0)
    clock.learn(START_MS)
    trusted = Trusted(
        TrustList.from_pem(issuer.trust_list_pem()),
        {cose.key_id(world.registry_key.public_key()): world.registry_key.public_key()},
        world.terminal.thumbprint,
    )
    return await serve_card(
        asked,
        at.transmit,
        atr or at.card.atr,
        registry=registry,
        trusted=trusted,
        clock=clock,
        chance=SALT,
        monotonic=lambda: 0.0,
        show=lambda *_, **__: None,
    )


@pytest.mark.requirement("A10")
async def test_a_genuine_card_becomes_an_assertion_for_this_audience_and_this_act(
    world: World, registry: Inquiry
) -> None:
    given = await visit(world, slot(), registry)
    keys = {cose.key_id(world.registry_key.public_key()): world.registry_key.public_key()}
    judged = assertion.verify(given.token, keys, audience=AUDIENCE, at=START_MS // 1000)
    assert judged.outcome is assertion.Outcome.GENUINE_NOW
    assert judged.claims is not None
    assert judged.claims.loa == given.loa == 2
    kept = given.transaction
    assert judged.claims.txh == inquiry.transaction_hash(
        service=kept.service,
        audience=kept.audience,
        act_reference=kept.act_reference,
        salt=kept.salt,
        at_ms=kept.at_ms,
    )


@pytest.mark.fault
async def test_a_card_torn_out_at_any_command_gives_no_assertion_and_is_called_gone(
    world: World, registry: Inquiry
) -> None:
    whole = slot()
    await visit(world, whole, registry)
    for k in range(1, len(whole.commands) + 1):
        torn = slot()
        torn.gone_at = k
        with pytest.raises(CardGoneError):
            await visit(world, torn, registry)


@pytest.mark.fault
@pytest.mark.parametrize("call", [1, 2])
async def test_a_registry_lost_at_any_call_gives_no_assertion(world: World, registry: Inquiry, call: int) -> None:
    with pytest.raises(InquiryError) as lost:
        await visit(world, slot(), FailingRegistry(registry, call))
    assert lost.value.failure is Failure.REGISTRY_UNREACHABLE


@pytest.mark.parametrize(
    ("defect", "error"),
    [
        (issuer.Defect.TAMPERED_DG1, CardNotAuthenticError),
        (issuer.Defect.FOREIGN_ISSUER, CardNotAuthenticError),
        (issuer.Defect.EXPIRED, CardExpiredError),
        (issuer.Defect.CLONED_CHIP, CardNotGenuineError),
        (issuer.Defect.MIXED_CHIP, CardNotGenuineError),
    ],
)
async def test_a_card_that_is_not_what_it_says_ends_under_its_own_name(
    world: World, registry: Inquiry, defect: issuer.Defect, error: type[CardError]
) -> None:
    with pytest.raises(error):
        await visit(world, slot(defect), registry)


async def test_an_unknown_card_is_not_spoken_to(world: World, registry: Inquiry) -> None:
    at = slot()
    with pytest.raises(CardUnsupportedError):
        await visit(world, at, registry, atr=bytes.fromhex("3B00"))
    assert at.commands == []


async def test_a_card_that_the_registry_does_not_hold_valid_is_asked_for_no_signature(
    world: World, registry: Inquiry
) -> None:
    class Revoked(FailingRegistry):
        async def open_inquiry(self, **what: Any) -> Any:
            return replace(await self.inner.open_inquiry(**what), card_status=CardStatus.REVOKED)

    at = slot()
    with pytest.raises(InquiryError) as refused:
        await visit(world, at, Revoked(registry, 0))
    assert refused.value.failure is Failure.CARD_NOT_VALID_ANY_MORE
    assert not any(command[1] == 0x88 for command in at.commands)


@pytest.mark.requirement("A12")
async def test_an_assertion_for_another_evidence_or_another_inquiry_is_never_shown(
    world: World, registry: Inquiry
) -> None:
    class OtherEvidence(FailingRegistry):
        async def obtain(self, challenge: Any, **what: Any) -> Any:
            granted = await self.inner.obtain(challenge, **what)
            return Granted(granted.token, granted.tracking_code, granted.evidence + b"x")

    earlier = await visit(world, slot(), registry)

    class Replayed(FailingRegistry):
        async def obtain(self, challenge: Any, **what: Any) -> Any:
            granted = await self.inner.obtain(challenge, **what)
            return Granted(earlier.token, granted.tracking_code, granted.evidence)

    for lying in (OtherEvidence(registry, 0), Replayed(registry, 0)):
        with pytest.raises(InquiryError) as refused:
            await visit(world, slot(), lying, asked=replace(ASKED, act_reference="another"))
        assert refused.value.failure is Failure.REGISTRY_ANSWER_REFUSED


async def test_no_command_that_a_visit_sends_could_spend_a_pin_try(world: World, registry: Inquiry) -> None:
    at = slot()
    await visit(world, at, registry)
    assert {command[1] for command in at.commands} <= {0xA4, 0xB0, 0xB1, 0x88, 0xC0}
    assert at.card.state.pin1_tries == 3

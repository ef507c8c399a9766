"""What hresults mean, and the watcher alone, in virtual time, against every sequence of answers."""

from __future__ import annotations

import threading

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.cards.errors import CardError, CardGoneError, CardMuteError, CardUnsupportedError
from edge_agent.errors import ReaderError
from edge_agent.pcsc.calls import HRESULTS, Pcsc, error_of, t0_form
from edge_agent.pcsc.watcher import BACK_OFF_LAST_S, BREATH_S, Seen, Watcher
from edge_agent.tests import fake_scard as fake
from edge_agent.tests.fake_scard import FakeScard
from wire.failures import Failure
from wire.messages import ReaderState

READER = "Govah 00 00"


# -- hresults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hresult", "kind", "failure"),
    [
        (0x8010000C, CardGoneError, Failure.CARD_GONE),
        (0x80100016, CardGoneError, Failure.CARD_GONE),
        (0x80100068, CardGoneError, Failure.CARD_GONE),
        (0x80100069, CardGoneError, Failure.CARD_GONE),
        (0x80100066, CardMuteError, Failure.CARD_MUTE),
        (0x80100067, CardMuteError, Failure.CARD_MUTE),
        (0x8010000F, CardUnsupportedError, Failure.CARD_UNSUPPORTED),
        (0x80100009, ReaderError, None),
        (0x8010000B, ReaderError, None),
        (0x80100017, ReaderError, None),
        (0x80100013, ReaderError, None),
        (0x8010001D, ReaderError, None),
        (0x8010001E, ReaderError, None),
        (0x8010ABCD, ReaderError, None),
    ],
)
def test_an_hresult_of_connect_becomes_the_error_that_its_catcher_needs(
    hresult: int, kind: type[Exception], failure: Failure | None
) -> None:
    error = error_of(hresult, "connect")
    assert type(error) is kind
    assert getattr(error, "failure", None) is failure


@given(hresult=st.sampled_from(sorted(HRESULTS)) | st.integers(1, 2**32 - 1))
def test_whatever_ends_a_transmit_is_a_lost_card_with_an_unknown_outcome(hresult: int) -> None:
    error = error_of(hresult, "transmit")
    assert type(error) is CardGoneError
    assert "unknown" in str(error)


@given(hresult=st.integers(0, 2**32 - 1), during=st.sampled_from(["connect", "transmit"]))
def test_no_hresult_is_ever_called_a_wrong_pin(hresult: int, during: str) -> None:
    error = error_of(hresult, during)
    assert isinstance(error, CardError | ReaderError)
    assert "pin" not in f"{type(error).__name__} {error}".lower()


# -- T=0 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "sent"),
    [
        ("00A40400", "00A40400"),
        ("00B0000000", "00B0000000"),
        ("00A4040002A000", "00A4040002A000"),
        ("00A4040002A00000", "00A4040002A000"),
    ],
)
def test_t0_leaves_le_out_where_data_is_sent_and_wanted(command: str, sent: str) -> None:
    assert t0_form(bytes.fromhex(command)) == bytes.fromhex(sent)


@pytest.mark.parametrize("command", ["00B00000000800", "00D600000001AA", "00880000000001AA0000"])
def test_t0_refuses_an_extended_length_instead_of_losing_data_silently(command: str) -> None:
    with pytest.raises(CardUnsupportedError):
        t0_form(bytes.fromhex(command))


# -- the watcher, alone, in virtual time ---------------------------------------------------------------------------


class VirtualTime(threading.Event):
    """Stands for `closing`: pausing costs no time, and the number of calls between two pauses is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_s = 0.0
        self.calls = 0
        self.calls_most = 0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0
        self.pass_time(timeout)
        return self.is_set()

    def pass_time(self, seconds: float) -> None:
        self.passed_s += seconds
        self.calls_most, self.calls = max(self.calls_most, self.calls), 0


Answer = int | str
HEALTHY_LOOKS = 12


class ScriptedScard(FakeScard):
    """Answers by a script, one step a call: an hresult, "broken" for SystemError, or "well" for the right answer."""

    def __init__(self, script: list[Answer], time: VirtualTime) -> None:
        super().__init__(READER)
        self._script = iter(script)
        self._time = time
        self._healthy = 0
        self.insert(READER)

    def _next(self) -> int:
        self._time.calls += 1
        step = next(self._script, "well")
        if step == "broken":
            raise SystemError("returned NULL without setting an exception")
        return step if isinstance(step, int) else fake.OK

    def SCardEstablishContext(self, scope: int) -> tuple[int, int]:  # noqa: N802
        hresult = self._next()
        return (hresult, 0) if hresult else super().SCardEstablishContext(scope)

    def SCardListReaders(self, context: int, groups: list[str]) -> tuple[int, list[str]]:  # noqa: N802
        hresult = self._next()
        return (hresult, []) if hresult else super().SCardListReaders(context, groups)

    def SCardGetStatusChange(  # noqa: N802
        self, context: int, limit_ms: int, asked: list[tuple[str, int]]
    ) -> tuple[int, fake.States]:
        hresult = self._next()
        if limit_ms and hresult in {fake.OK, fake.TIMEOUT}:
            self._time.pass_time(limit_ms / 1000)
        if hresult:
            return hresult, []
        if limit_ms:
            self._healthy += 1
            if self._healthy > HEALTHY_LOOKS:
                self._time.set()
        return super().SCardGetStatusChange(context, 0, asked)


answers = st.sampled_from(["well", "broken", fake.TIMEOUT, fake.CANCELLED, *sorted(HRESULTS), 0x8010ABCD])
rounds = st.tuples(st.just("well"), st.just("well"), answers)
"""The list and the look succeed, the wait does whatever it likes."""
steps = st.lists(rounds | st.tuples(answers), max_size=40).map(lambda drawn: [step for each in drawn for step in each])


@example(script=["well", "well", "well", fake.CANCELLED] + ["well", "well", fake.UNKNOWN_READER] * 20, chance=0.0)
@given(script=steps, chance=st.floats(0, 1, exclude_max=True))
def test_no_sequence_of_answers_stops_the_watcher_or_makes_it_spin(script: list[Answer], chance: float) -> None:
    time = VirtualTime()
    scard = ScriptedScard(script, time)
    told: list[Seen] = []
    watcher = Watcher(Pcsc(scard), time, allow=lambda _: True, chance=lambda: chance, tell=told.append)
    watcher.run()
    assert told[-1].state is ReaderState.CARD_PRESENT, "it is well again once the daemon is"
    assert scard.contexts == {}, "every context is released"
    assert time.calls_most <= 4, "there is a pause after every look, and an attempt is one look"
    assert time.passed_s >= (len(script) // 4) * BREATH_S
    insertions = [card.insertion for seen in told for card in seen.cards]
    assert insertions == sorted(insertions)


def pauses_of(script: list[Answer], count: int) -> list[float]:
    """The first `count` pauses, which is where virtual time ends."""
    time = VirtualTime()
    pauses: list[float] = []

    def wait(timeout: float | None = None) -> bool:
        pauses.append(timeout or 0.0)
        if len(pauses) == count:
            time.set()
        return time.is_set()

    time.wait = wait  # type: ignore[method-assign] # the test's own clock
    scard = ScriptedScard(script, time)
    Watcher(Pcsc(scard), time, allow=lambda _: True, chance=lambda: 0.999, tell=lambda _: None).run()
    return pauses


def test_a_dead_daemon_is_asked_ever_more_seldom_but_at_least_every_two_seconds() -> None:
    pauses = pauses_of([fake.NO_SERVICE] * 99, 12)
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert BACK_OFF_LAST_S * 0.9 < pauses[-1] <= BACK_OFF_LAST_S


def test_a_daemon_that_was_well_in_between_is_asked_again_soon() -> None:
    pauses = pauses_of([*[fake.NO_SERVICE] * 8, "well", "well", "well", fake.NO_SERVICE], 10)
    assert pauses[7] > 1
    assert pauses[8] == BREATH_S
    assert pauses[9] < 0.1

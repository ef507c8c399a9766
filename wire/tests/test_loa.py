from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire import loa
from wire.loa import SPINE_POLICY, Evidence

EVERY_SET = range(1 << 16)

# Level, and the bit numbers that it needs: the table of the policy written a second time, without the code's names.
TABLE = [(2, {0, 4, 7}), (1, {0}), (0, set[int]())]


def by_the_table(evidence: int) -> int:
    bits = {number for number in range(16) if evidence >> number & 1}
    return next(level for level, needed in TABLE if needed <= bits)


@pytest.mark.requirement("A2")
def test_all_65536_sets_of_evidence_have_the_level_of_the_table() -> None:
    assert [loa.level(evidence, SPINE_POLICY) for evidence in EVERY_SET] == [by_the_table(e) for e in EVERY_SET]


@pytest.mark.requirement("A2")
def test_more_evidence_never_gives_less_level() -> None:
    levels = [loa.level(evidence, SPINE_POLICY) for evidence in EVERY_SET]
    for evidence in EVERY_SET:
        for number in range(16):
            assert levels[evidence] <= levels[evidence | 1 << number]


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("policy", ["", "loa-policy/1", "loa-policy/spine-1", "LOA-POLICY/SPINE-0", SPINE_POLICY + " "])
def test_a_policy_that_is_not_known_gives_no_level_whatever_the_evidence(policy: str) -> None:
    assert not loa.known_policy(policy)
    assert {loa.level(evidence, policy) for evidence in EVERY_SET} == {0}


@given(st.integers())
def test_evidence_beyond_sixteen_bits_gives_no_level(evidence: int) -> None:
    expected = by_the_table(evidence) if 0 <= evidence < 1 << 16 else 0
    assert loa.level(evidence, SPINE_POLICY) == expected


@pytest.mark.requirement("A2")
def test_chip_authentication_alone_does_not_bind_the_card_to_the_transaction() -> None:
    without = Evidence.PASSIVE_AUTH | Evidence.STATUS_FRESH | Evidence.CHIP_AUTH
    assert loa.level(without, SPINE_POLICY) == 1
    assert loa.level(without | Evidence.CARD_SIGNED, SPINE_POLICY) == 2


def test_the_bits_have_the_numbers_of_the_claim() -> None:
    order = (
        *("PASSIVE_AUTH", "PACE", "CONTACT", "CHIP_AUTH", "STATUS_FRESH", "PIN", "PIN_NOT_DEFAULT", "CARD_SIGNED"),
        *("MOC1", "MOC2", "OFFICER_FACE", "OFFICER_SIGNED", "REMOTE_OFFICER", "TERMINAL_ATTESTED"),
        *("CERTIFICATE_L3", "IDENTITY_UNCHANGED"),
    )
    assert {bit.name: bit.value for bit in Evidence} == {name: 1 << number for number, name in enumerate(order)}

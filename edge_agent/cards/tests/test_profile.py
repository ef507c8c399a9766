from __future__ import annotations

from functools import reduce
from operator import xor

from edge_agent.cards import profile

REAL_ATR = bytes.fromhex("3BDB97008131FE85801349524E7396715B91302F")
"""The national card's, from LudovicRousseau/pcsc-tools smartcard_list.txt."""


def test_the_simulated_cards_atr_is_well_formed_and_of_the_family() -> None:
    atr = profile.SPINE_0_ATR
    assert reduce(xor, atr[1:]) == 0, "TCK makes the exclusive or of all but TS zero (ISO/IEC 7816-3 clause 8.2.5)"
    assert len(atr) == len(REAL_ATR)
    assert atr[:-2] == REAL_ATR[:-2]


def test_only_cards_that_a_profile_was_written_for_are_matched() -> None:
    assert profile.match(profile.SPINE_0_ATR) is profile.SPINE_0
    assert profile.match(REAL_ATR) is None
    assert profile.match(b"") is None
    assert profile.match(profile.SPINE_0_ATR + b"\x00") is None


def test_a_mask_hides_the_bits_that_do_not_matter() -> None:
    mask = profile.AtrMask(b"\x3b\x10", b"\xff\xf0")
    assert mask.matches(b"\x3b\x1f")
    assert not mask.matches(b"\x3b\x2f")

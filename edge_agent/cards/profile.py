"""Card profiles: what one generation of cards looks like, as data. The session reads them; it knows no card by name.

One profile so far. `spine-0`: as NCP-R1, but contact reads data groups and uses the card key in the clear; withdrawn
by the card issue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class AtrMask:
    """An ATR with the bits that matter."""

    value: bytes
    mask: bytes

    def matches(self, atr: bytes) -> bool:
        """Same length, and equal in every bit of the mask."""
        return len(atr) == len(self.value) and all(
            got & bits == want & bits for got, want, bits in zip(atr, self.value, self.mask, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """How to talk to the cards that match. Sizes are bytes."""

    name: str
    atr_masks: tuple[AtrMask, ...]
    master_file: bytes
    lds_aid: bytes
    eid_aid: bytes
    sfi_atr_info: int
    """EF.ATR/INFO (2F01) under the master file, ICAO 9303-10 table 34."""
    sfi_directory: int
    """EF.DIR (2F00) under the master file."""
    sfi_security_object: int
    group_sfis: tuple[tuple[int, int], ...]
    """(data group, short file identifier) of the groups that a visit reads, in order."""
    card_certificate_fid: bytes
    card_key_reference: int
    max_file_bytes: int
    max_certificate_bytes: int
    max_le: int
    max_reads_per_file: int
    """A card may give less than was asked, but not for ever."""

    def matches(self, atr: bytes) -> bool:
        """Whether this profile fits a card with this ATR."""
        return any(mask.matches(atr) for mask in self.atr_masks)


SPINE_0_ATR: Final = bytes.fromhex("3BDB97008131FE85801349524E7396715B91534C")
"""The simulated card: the coding of the national card's ATR, with 53 (S) in the last data object.

The ATR of cards in citizens' hands is not matched: their specification is not public and this profile is not theirs.
"""

SPINE_0: Final = Profile(
    name="spine-0",
    atr_masks=(AtrMask(SPINE_0_ATR, b"\xff" * len(SPINE_0_ATR)),),
    master_file=bytes.fromhex("3F00"),
    lds_aid=bytes.fromhex("A0000002471001"),
    eid_aid=bytes.fromhex("A000000063504B43532D3135"),
    sfi_atr_info=0x01,
    sfi_directory=0x1E,
    sfi_security_object=0x1D,
    group_sfis=((1, 0x01), (11, 0x0B)),
    card_certificate_fid=bytes.fromhex("5043"),
    card_key_reference=0x03,
    max_file_bytes=16 * 1024,
    max_certificate_bytes=4096,
    max_le=256,
    max_reads_per_file=128,
)

PROFILES: Final = (SPINE_0,)


def match(atr: bytes) -> Profile | None:
    """The profile for a card that answered reset with `atr`, or None: the card is not supported."""
    return next((profile for profile in PROFILES if profile.matches(atr)), None)

"""Levels of assurance: from evidence bits to a level, as a pure function of a named policy (card.md section 4).

Each bit names one thing that was *proved*, and who proved it. The registry computes bits and level itself; a verifier
only checks that the bits in a token imply its level. A bit without its proof is 0; an unknown policy gives level 0.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Evidence(IntFlag):
    """Bit numbers as in the assertion's claim -70002. The prover of each stands behind it."""

    PASSIVE_AUTH = 1 << 0  # registry: security object, document signer, hashes
    PACE = 1 << 1  # card's verdict and reader
    CONTACT = 1 << 2  # card's verdict
    CHIP_AUTH = 1 << 3  # reader (CA) or registry (AA)
    STATUS_FRESH = 1 << 4  # registry
    PIN = 1 << 5  # reader
    PIN_NOT_DEFAULT = 1 << 6  # card and reader
    CARD_SIGNED = 1 << 7  # card key 03 over the transaction
    MOC1 = 1 << 8  # card's verdict, reader's own sensor
    MOC2 = 1 << 9
    OFFICER_FACE = 1 << 10  # officer's signature
    OFFICER_SIGNED = 1 << 11  # officer card
    REMOTE_OFFICER = 1 << 12  # second officer card
    TERMINAL_ATTESTED = 1 << 13  # attestation key
    CERTIFICATE_L3 = 1 << 14  # registry
    IDENTITY_UNCHANGED = 1 << 15  # registry


SPINE_POLICY: Final = "loa-policy/spine-0"
"""The first policy: no PIN and no matching yet, so it never gives more than level 2."""

# CHIP_AUTH does not count: chip authentication is Diffie-Hellman with a static key, so it proves the chip to the reader
# alone and cannot carry the transaction's hash. Only the card's own signature does.
_GENUINE = Evidence.PASSIVE_AUTH | Evidence.STATUS_FRESH | Evidence.CARD_SIGNED


def level(evidence: int, policy: str) -> int:
    """The level that `evidence` reaches under `policy`: 0 (nothing), 1 (card data) or 2 (genuine card).

    Unknown policies and evidence beyond 16 bits give 0: fail closed.
    """
    if policy != SPINE_POLICY or not 0 <= evidence < 1 << 16:
        return 0
    bits = Evidence(evidence)
    if Evidence.PASSIVE_AUTH not in bits:
        return 0
    if _GENUINE not in bits:
        return 1
    return 2


def known_policy(policy: str) -> bool:
    """Whether `level` can judge `policy` at all."""
    return policy == SPINE_POLICY

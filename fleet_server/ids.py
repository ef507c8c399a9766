"""Row ids that we make ourselves: UUIDv7 (RFC 9562 section 5.7), so that no database sequence is needed and ids sort by
time. Time, chance and order come in as arguments."""

from __future__ import annotations

from typing import Final

ENTROPY_BYTES: Final = 8


def uuid7(at_ms: int, order: int, entropy: bytes) -> bytes:
    """16 bytes that sort by `at_ms`, then by `order` (kept modulo 4096), then by chance.

    Args:
        at_ms: milliseconds since 1970 UTC, 48 bits.
        order: counts what one process writes, so that two rows of one millisecond keep their order.
        entropy: `ENTROPY_BYTES` random bytes, of which 62 bits are used.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"needs {ENTROPY_BYTES} bytes")
    number = (at_ms & (1 << 48) - 1) << 80
    number |= 0x7 << 76 | (order & 0xFFF) << 64
    number |= 0b10 << 62 | int.from_bytes(entropy) & (1 << 62) - 1
    return number.to_bytes(16)

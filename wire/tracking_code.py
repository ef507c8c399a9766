"""The tracking code (کد رهگیری) that ends every inquiry (decree 000 paragraph 2; requirement B5).

Sixteen symbols of an alphabet of thirty without look-alikes: fifteen random and one check symbol by the hybrid
system of ISO 7064, MOD 31,30. It catches every single wrong symbol and all but 60 of the 26,100 ways in which two
neighbours can change places (0.23 %; the construction can do no better, a test counts them). Not derived from any
person or time, so it can be spoken aloud at a counter.
"""

from __future__ import annotations

ALPHABET = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUE = {symbol: value for value, symbol in enumerate(ALPHABET)}
_RANDOM_SYMBOLS = 15
_M = len(ALPHABET)
_SKIPPED = frozenset(
    " -\t\r\n\u00a0\u200b\u200c\u200d\u200e\u200f\u2010\u2011\u2012\u2013"
    "\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff"
)
ENTROPY_BYTES = 16
"""How many random bytes `make` asks for; 30**15 possibilities are 73 bits."""


class TrackingCodeError(ValueError):
    """Not a tracking code: wrong length, a symbol outside the alphabet, or a check symbol that does not fit."""


def make(entropy: bytes) -> str:
    """A code in canonical form from `ENTROPY_BYTES` random bytes.

    The bias of taking 128 bits modulo 30**15 is below 2**-54.
    """
    if len(entropy) != ENTROPY_BYTES:
        raise ValueError(f"needs {ENTROPY_BYTES} bytes")
    number = int.from_bytes(entropy) % _M**_RANDOM_SYMBOLS
    symbols = ""
    for _ in range(_RANDOM_SYMBOLS):
        number, value = divmod(number, _M)
        symbols += ALPHABET[value]
    return _grouped(symbols + check_symbol(symbols))


def parse(text: str) -> str:
    """The canonical form (``XXXX-XXXX-XXXX-XXXX``) of what a person typed or pasted.

    Any case of a-z, Persian and Arabic digits; spaces, hyphens and the invisible marks that a right-to-left page
    copies along are skipped.

    Raises:
        TrackingCodeError: it cannot be a code of ours.
    """
    if len(text) > 64:
        raise TrackingCodeError("too long")
    symbols = "".join(_ascii(c) for c in text if c not in _SKIPPED)
    if len(symbols) != _RANDOM_SYMBOLS + 1:
        raise TrackingCodeError("a tracking code has 16 symbols")
    if any(symbol not in _VALUE for symbol in symbols):
        raise TrackingCodeError("a symbol is not of the alphabet")
    if check_symbol(symbols[:-1]) != symbols[-1]:
        raise TrackingCodeError("the check symbol does not fit")
    return _grouped(symbols)


def check_symbol(symbols: str) -> str:
    """ISO 7064 section 9 (hybrid systems), modulus M+1 = 31 and M = 30."""
    product = _M
    for symbol in symbols:
        total = (product + _VALUE[symbol]) % _M or _M
        product = total * 2 % (_M + 1)
    return ALPHABET[(_M + 1 - product) % _M]


def _ascii(symbol: str) -> str:
    """Persian and Arabic-Indic digits as ASCII, a-z as capitals; nothing else, so that ``ſ`` is no S."""
    if symbol.isascii():
        return symbol.upper()
    for zero in (0x06F0, 0x0660):
        if zero <= ord(symbol) < zero + 10:
            return chr(ord(symbol) - zero + ord("0"))
    return symbol


def _grouped(symbols: str) -> str:
    return "-".join(symbols[i : i + 4] for i in range(0, len(symbols), 4))

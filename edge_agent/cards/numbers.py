"""Identity numbers and names as people type them: digits of three scripts, check digits, two ways to write a letter.

Stored form is ASCII digits. Display is the screen's business.
"""

from __future__ import annotations

from typing import Final

_MAX_TYPED: Final = 64
_LEGAL_WEIGHTS: Final = (29, 27, 23, 19, 17)
_SAME_LETTER: Final = str.maketrans({"ي": "ی", "ى": "ی", "ك": "ک", "\u200c": " ", "\u200d": None, "ـ": None})


def ascii_digits(text: str) -> str:
    """Persian (U+06F0..) and Arabic-Indic (U+0660..) digits as ASCII; everything else unchanged."""
    return "".join(_ascii_digit(symbol) for symbol in text)


def national_number(text: str) -> str | None:
    """The ten ASCII digits of a national number (شمارهٔ ملی), or None if it cannot be one.

    Accepts digits of any of the three scripts and eight or nine digits whose leading zeros were lost. The check digit
    is the usual weighted sum modulo 11; ten equal digits are refused.
    """
    digits = _digits(text)
    if digits is None or not 8 <= len(digits) <= 10:
        return None
    digits = digits.zfill(10)
    if len(set(digits)) == 1 or digits[9] != national_number_check_digit(digits[:9]):
        return None
    return digits


def national_number_check_digit(nine: str) -> str:
    """The tenth digit that belongs to `nine` ASCII digits."""
    rest = sum(int(digit) * (10 - place) for place, digit in enumerate(nine)) % 11
    return str(rest if rest < 2 else 11 - rest)


def legal_person_id(text: str) -> str | None:
    """The eleven ASCII digits of a legal person's id (شناسهٔ ملی), or None if it cannot be one."""
    digits = _digits(text)
    if digits is None or len(digits) != 11:
        return None
    offset = int(digits[9]) + 2
    total = sum((offset + int(digit)) * _LEGAL_WEIGHTS[place % 5] for place, digit in enumerate(digits[:10]))
    return digits if str(total % 11 % 10) == digits[10] else None


def comparable_name(name: str) -> str:
    """A name in the form in which two spellings of it are equal: one ی, one ک, single spaces, no joiners."""
    return " ".join(name.translate(_SAME_LETTER).split())


def _digits(text: str) -> str | None:
    if len(text) > _MAX_TYPED:
        return None
    digits = ascii_digits(text.strip())
    return digits if digits.isascii() and digits.isdigit() else None


def _ascii_digit(symbol: str) -> str:
    for zero in (0x06F0, 0x0660):
        if zero <= ord(symbol) < zero + 10:
            return chr(ord(symbol) - zero + ord("0"))
    return symbol

"""Citizens that are nobody: a number decides the name, the national number, the dates and everything else of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from edge_agent.cards import numbers

MAX_SEED: Final = 99_999_999

_SURNAMES: Final = (
    ("محمدی", "MOHAMMADI"), ("حسینی", "HOSSEINI"), ("احمدی", "AHMADI"), ("رضایی", "REZAEI"), ("مرادی", "MORADI"),
    ("کریمی", "KARIMI"), ("جعفری", "JAFARI"), ("صادقی", "SADEGHI"), ("قاسمی", "GHASEMI"), ("یوسفی", "YOUSEFI"),
    ("نوری", "NOURI"), ("شریفی‌نژاد", "SHARIFINEJAD"), ("گل‌محمدی", "GOLMOHAMMADI"), ("پورحسن", "POURHASSAN"),
    ("میرزاخانی", "MIRZAKHANI"), ("ژاله‌پرور", "ZHALEHPARVAR"),
)  # fmt: skip
_WOMEN: Final = (
    ("زهرا", "ZAHRA"), ("فاطمه", "FATEMEH"), ("مریم", "MARYAM"), ("نرگس", "NARGES"), ("لیلا", "LEILA"),
    ("پروین", "PARVIN"), ("شیرین", "SHIRIN"), ("ژیلا", "ZHILA"), ("گیتی", "GITI"), ("آزاده", "AZADEH"),
)  # fmt: skip
_MEN: Final = (
    ("علی", "ALI"), ("محمدرضا", "MOHAMMADREZA"), ("حسین", "HOSSEIN"), ("مهدی", "MEHDI"), ("رضا", "REZA"),
    ("کاوه", "KAVEH"), ("بهرام", "BAHRAM"), ("سیاوش", "SIAVASH"), ("پژمان", "PEJMAN"), ("یحیی", "YAHYA"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Citizen:
    """Somebody who does not exist. The number decides everything."""

    seed: int
    surname: str
    given_names: str
    father_name: str
    national_number: str
    birth_date: date
    sex: str
    latin_surname: str
    latin_given_names: str

    @classmethod
    def from_seed(cls, seed: int) -> Citizen:
        """The citizen number `seed` (0 to `MAX_SEED`)."""
        chance = derive(f"citizen/{document_number(seed)}")
        woman = chance[0] % 2 == 0
        surname, latin_surname = _SURNAMES[chance[1] % len(_SURNAMES)]
        names = _WOMEN if woman else _MEN
        given_names, latin_given_names = names[chance[2] % len(names)]
        nine = f"{int.from_bytes(chance[4:12]) % 10**9:09d}"
        if len(set(nine)) == 1:
            nine = "012345678"
        return cls(
            seed=seed,
            surname=surname,
            given_names=given_names,
            father_name=_MEN[chance[3] % len(_MEN)][0],
            national_number=nine + numbers.national_number_check_digit(nine),
            birth_date=date(1950, 1, 1) + timedelta(days=int.from_bytes(chance[12:16]) % 20_000),
            sex="F" if woman else "M",
            latin_surname=latin_surname,
            latin_given_names=latin_given_names,
        )

    @property
    def document_number(self) -> str:
        """Nine characters, an S for simulated and the number."""
        return document_number(self.seed)


def seed_of(document_number: str) -> int | None:
    """The number behind a document number, or None if it is not one of ours."""
    digits = document_number[1:]
    if document_number[:1] == "S" and len(digits) == 8 and digits.isascii() and digits.isdigit():
        return int(digits)
    return None


def document_number(seed: int) -> str:
    """The document number of citizen `seed`.

    Raises:
        ValueError: there is no such citizen.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"a card number is 0 to {MAX_SEED}")
    return f"S{seed:08d}"


def derive(label: str) -> bytes:
    """64 bytes that depend on `label` only."""
    return hashlib.sha512(f"govah SIMULATED issuer 1/{label}".encode()).digest()

"""The permission matrix (decree 004, regulation article 6): data in, a decision out. No entry means denied.

Agency and office class are what the terminal says of itself; nothing binds them yet (docs/adr/0016).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

FORMAT: Final = "govah-permission-matrix;v=0"

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class MatrixError(Exception):
    """The matrix file is not one; the exchange does not start without it."""


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One row's right-hand side. `text_defect`: the decree's own wording is garbled there."""

    id: _Name
    fa: _Name
    owner: _Name
    text_defect: bool = False


class AgencyGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    agency: _Name
    services: list[Service]


class ClassGrant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    office_class: _Name
    fa: _Name
    services: list[Service]


class Decision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decision of the working group; `simulated` ones exist only here."""

    number: _Name
    simulated: bool
    source: str
    session: int | None = None
    date_jalali: str | None = None
    resolution: int | None = None
    grants: list[AgencyGrant] = []
    class_grants: list[ClassGrant] = []


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    note: str
    decisions: list[Decision]


@dataclass(frozen=True, slots=True)
class Grant:
    """Permitted, by which decision."""

    decision: str
    simulated: bool


@dataclass(frozen=True, slots=True)
class Denial:
    """Not permitted; `missing` says in Persian and English which decision would be needed (at most 256 characters)."""

    missing: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """All decisions that are in force."""

    decisions: tuple[Decision, ...]

    def decide(self, *, agency: str, office_class: str, service: str, owner: str) -> Grant | Denial:
        """Whether `agency`, an office of `office_class`, may ask `service` of the agency that is `owner` for short."""
        if service.partition(".")[0] != owner:
            return Denial(f"«{service}» سرویس «{owner}» نیست / is not a service of {owner}")
        for decision in self.decisions:
            by_name = (grant.services for grant in decision.grants if grant.agency == agency)
            by_class = (grant.services for grant in decision.class_grants if grant.office_class == office_class)
            if any(granted.id == service for services in (*by_name, *by_class) for granted in services):
                return Grant(decision.number, decision.simulated)
        return Denial(
            f"«{agency}» ← {service}: مصوبهٔ کارگروه تعامل‌پذیری لازم است / "
            "a decision of the interoperability working group is missing"
        )


def load(data: bytes) -> Matrix:
    """The matrix of a JSON file.

    Raises:
        MatrixError: not JSON, a field missing, unknown or of another type, or another format.
    """
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as exc:
        raise MatrixError(str(exc)) from exc
    if file.format != FORMAT:
        raise MatrixError(f"not {FORMAT}")
    return Matrix(tuple(file.decisions))

"""What the kiosk page and the office API are told at start. The agent's own configuration reader fills this in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

MAX_OFFICES = 16
MAX_SERVICES = 64
TOKEN_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True)
class Service:
    """One service that an office offers, from its service sheet (requirement C11)."""

    id: str
    title_fa: str
    title_en: str
    min_loa: int
    """The level that the service needs; a request may ask for more, never for less."""
    legal_basis: str
    """Code of the decision that the inquiry rests on (requirement A17)."""


@dataclass(frozen=True, slots=True)
class Office:
    """One relying party at this counter and what its software may ask for."""

    name: str
    audience: str
    """Legal id and branch, the assertion's `aud`."""
    office_class: str
    token_sha256: bytes
    """SHA-256 of the bearer token; the token itself is not on the terminal."""
    services: tuple[Service, ...]

    def service(self, service_id: str) -> Service | None:
        """The service with this id, if the office offers it."""
        return next((service for service in self.services if service.id == service_id), None)


@dataclass(frozen=True, slots=True)
class KioskConfig:
    """`offices[0]` is the counter's own office: the one that visits started by hand belong to."""

    terminal: str
    offices: tuple[Office, ...]
    host: str = "127.0.0.1"
    port: int = 8480
    """0: any free one."""
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")
    """Names that a request may carry in its Host header, without port; all else is taken for DNS rebinding."""

    def __post_init__(self) -> None:
        problems = self.problems()
        if problems:
            raise ValueError("; ".join(problems))

    def problems(self) -> list[str]:
        """Everything that is wrong with this configuration, in words for a technician."""
        found = []
        if not _is_loopback(self.host):
            found.append("the kiosk's host must be a loopback address")
        if not 0 <= self.port < 1 << 16:
            found.append("the kiosk's port must be 0 to 65535")
        if not 1 <= len(self.offices) <= MAX_OFFICES:
            found.append(f"there must be 1 to {MAX_OFFICES} offices")
        for office in self.offices:
            if len(office.token_sha256) != TOKEN_SHA256_BYTES:
                found.append(f"office {office.name}: token_sha256 must be {TOKEN_SHA256_BYTES} bytes")
            if not 1 <= len(office.services) <= MAX_SERVICES:
                found.append(f"office {office.name}: there must be 1 to {MAX_SERVICES} services")
            found += [
                f"office {office.name}, service {service.id}: min_loa must be 1 to 4"
                for service in office.services
                if not 1 <= service.min_loa <= 4
            ]
        if len({office.token_sha256 for office in self.offices}) != len(self.offices):
            found.append("two offices have the same token")
        if len({office.audience for office in self.offices}) != len(self.offices):
            found.append("two offices have the same audience")
        return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

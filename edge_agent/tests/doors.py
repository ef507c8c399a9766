"""The terminal's door to the exchange, opened on a world without a network."""

from __future__ import annotations

from typing import Any

import httpx

from edge_agent.inquiry import Challenge, Credentials, Inquiry, Route
from tools.simulators import issuer
from tools.simulators.registry.tests.world import AUDIENCE, World, card_signature, counted, group_hashes, verdict_status
from wire.inquiry import card_challenge


def door(world: World, transport: httpx.AsyncBaseTransport | None = None, **route: object) -> Inquiry:
    """Wired to the world's exchange, or to `transport`; `route` replaces fields of the route."""
    values: dict[str, Any] = {
        "url": "https://nix",
        "ca": world.terminal_ca.certificate,
        "from_agency": "demo",
        "pause_s": 0.0,
    }
    terminal = world.terminal
    return Inquiry(
        Route(**{**values, **route}),
        Credentials(terminal.key, terminal.certificate, world.registry_key.public_key(), world.nix_key.public_key()),
        now_ms=world.clock,
        chance=counted("terminal"),
        transport=transport or httpx.ASGITransport(world.nix_app),
    )


def proofs(challenge: Challenge, terminal: bytes, card: issuer.CardImage, txh: bytes) -> dict[str, Any]:
    """What `Inquiry.obtain` wants beside the challenge, from a card in the terminal with thumbprint `terminal`."""
    status = verdict_status()
    digest = card_challenge(
        nonce=challenge.nonce, terminal=terminal, audience=AUDIENCE, txh=txh, policy=challenge.policy
    )
    return {
        "security_object": card.security_object,
        "group_hashes": group_hashes(card),
        "verdict_status": status,
        "verdict_signature": card_signature(card, digest, status),
    }

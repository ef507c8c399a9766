"""`govah sim`: what other parties own, simulated."""

from __future__ import annotations

import click

from tools.__main__ import LazyGroup

_VERBS = {
    "card": "tools.commands.sim_card:card",
    "nix": "tools.commands.sim_nix:nix",
    "registry": "tools.commands.sim_registry:registry",
    "trust-list": "tools.commands.sim_card:trust_list",
}


@click.group(cls=LazyGroup, verbs=_VERBS)
def sim() -> None:
    """Simulators of the card, its issuer, the national exchange and the civil registry."""

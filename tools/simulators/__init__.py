"""Simulators of what other parties own: the card, its issuer, NIX, the registry. They are products."""

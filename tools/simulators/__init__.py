"""Simulators of what other parties own: the card, its issuer, NIX, the registry. They are products.

What a terminal says of its agency, office class and audience is not bound to it yet, and exchange and registry read no
revocation list (docs/adr/0016).
"""

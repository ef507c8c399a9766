"""Figures that depend on the machine: each is measured beside its own floor, in one run, as CPU time."""

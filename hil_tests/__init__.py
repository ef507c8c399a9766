"""Tests of the whole terminal on a bench: emulated here, real hardware by a TOML file."""

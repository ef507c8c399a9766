"""Tests of the codecs. `examples` builds messages and tokens of every kind."""

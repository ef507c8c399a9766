"""Knows cards and does no input or output: APDUs in, values out."""

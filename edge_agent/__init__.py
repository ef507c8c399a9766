"""The agent on the terminal: one card visit at a time, journalled before it is shown."""

__version__ = "0.1.0"

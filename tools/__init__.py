"""The `govah` command, the simulators and the demo."""

"""One module per verb of the `govah` command."""

"""One file per migration, `NNNN_what.py`."""

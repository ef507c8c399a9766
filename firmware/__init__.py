"""The reader firmware (MicroPython). Imports nothing of ours."""

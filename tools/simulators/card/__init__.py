"""A simulated national card: its operating system (`system`), its memory (`memory`), its contacts (`vpcd`)."""

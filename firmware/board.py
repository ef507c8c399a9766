"""The board interface: all that firmware may ask of the hardware it runs on. One file per board implements it.

Written in the subset of Python that MicroPython runs: no typing module, no enum, no dataclass. Boards live in
`firmware/boards/` and are the only files that import `machine` or anything of a host; everything else in `firmware/`
takes a board as an argument and runs unchanged on CPython, on MicroPython's unix and WebAssembly ports and on the MCU.
"""


class BoardError(Exception):
    """The hardware cannot do what was asked: the slot it is about goes mute and health says why."""


class Board:
    """What a board provides. Times are milliseconds of a clock that never goes back."""

    def ticks_ms(self):  # type: () -> int
        """Milliseconds since power-up, wrapping as MicroPython's `time.ticks_ms` does."""
        raise NotImplementedError

    def random(self, size):  # type: (int) -> bytes
        """`size` bytes from the hardware's entropy source; never a pseudo-random stand-in."""
        raise NotImplementedError

    def feed_watchdog(self):  # type: () -> None
        """Say that the main loop is alive; without it the board resets."""
        raise NotImplementedError

    def tampered(self):  # type: () -> bool
        """Whether the tamper switch is or was open since it was last armed."""
        raise NotImplementedError

    def link_read(self, buffer):  # type: (bytearray) -> int
        """Fill `buffer` with what the host has sent; how many bytes, 0 if none is there."""
        raise NotImplementedError

    def link_write(self, data):  # type: (bytes) -> int
        """Send to the host; how many bytes were taken."""
        raise NotImplementedError

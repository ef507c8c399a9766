"""From the broker to one transaction to the acknowledgement: the only writer of facts, presence and watermarks.

`watermark` and `presence` judge and do no I/O; `batch` reads bytes; `store` holds one transaction per batch; `down` is
what terminals are told; `process` wires them to the broker door, the clock and the signals.
"""

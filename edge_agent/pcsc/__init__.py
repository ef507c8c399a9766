"""The door to the card readers: `Readers` follows them, `Readers.connect` speaks with a card.

Two kinds of thread, each with a context of its own. The watcher follows readers and cards and posts what it sees into
the event loop. A connection has a worker that makes its blocking calls in order and ends by itself. Which daemon they
talk to is said by `PCSCLITE_CSOCK_NAME` in the environment, which libpcsclite reads once, at its first use.

`calls` is the one file that imports `smartcard`; nothing outside this folder knows of hresults.
"""

from edge_agent.pcsc.calls import reader_names
from edge_agent.pcsc.readers import Connection, Readers
from edge_agent.pcsc.watcher import CardPresent

__all__ = ["CardPresent", "Connection", "Readers", "reader_names"]

"""The ingest's own figures in Prometheus' text format, on loopback. The fleet's figures are the web process's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_HEAD_MAX: Final = 4096
_HEAD_TIMEOUT_S: Final = 5.0
_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class IngestMetrics:
    """Counted once per batch, never per message."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter("govah_ingest_messages", "Messages acknowledged.", registry=self.registry)
        self.facts = Counter("govah_ingest_facts", "Facts stored for the first time.", registry=self.registry)
        self.batches = Counter("govah_ingest_batches", "Transactions committed.", registry=self.registry)
        self.rejected = Counter(
            "govah_ingest_rejected", "Messages not stored, by reason.", ["reason"], registry=self.registry
        )
        self.commit_s = Histogram(
            "govah_ingest_commit_seconds", "Parsing to commit.", buckets=_SECONDS, registry=self.registry
        )
        self.lag_s = Histogram(
            "govah_ingest_lag_seconds", "Oldest message of a batch: receipt to commit.", buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.retries = Counter("govah_ingest_commit_retries", "Commits refused for now.", registry=self.registry)
        self.published = Counter(
            "govah_ingest_published", "Marks and commands to terminals.", ["kind", "outcome"], registry=self.registry
        )
        self.connected = Gauge("govah_ingest_broker_connected", "1 while connected.", registry=self.registry)
        self.silent = Counter("govah_ingest_silent_terminals", "Lost by the age rule.", registry=self.registry)


@asynccontextmanager
async def served(metrics: IngestMetrics, port: int) -> AsyncIterator[None]:
    """Answer every request on 127.0.0.1:`port` with the figures, while the block runs.

    Raises:
        OSError: the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_TIMEOUT_S):
                await reader.readuntil(b"\r\n\r\n")
            body = generate_latest(metrics.registry)
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {len(body)}\r\n"
            writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # not a scraper
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port, limit=_HEAD_MAX)
    async with server:
        yield

"""`/metrics` for Prometheus: the fleet in figures, and how fast this program answers. The only file with its client."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from typing import Final

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_server import db, queries
from fleet_server.dashboard.queries import newest_message_ms

_BUCKETS_S: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class FleetCollector(Collector):
    """Reads the figures at every scrape; `queries.numbers` keeps that cheap."""

    def __init__(self, engine: sa.Engine, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        now_ms = self._now_ms()
        with db.reading(self._engine) as connection:
            numbers = queries.numbers(connection, now_ms=now_ms)
            newest_ms = newest_message_ms(connection)
        terminals = GaugeMetricFamily("govah_terminals", "Terminals by presence.", labels=["presence"])
        for word, count in numbers.terminals.items():
            terminals.add_metric([word], count)
        yield terminals
        anomalies = GaugeMetricFamily("govah_anomalies", "Anomalies kept, by kind.", labels=["kind"])
        for kind, count in numbers.anomalies.items():
            anomalies.add_metric([kind], count)
        yield anomalies
        yield GaugeMetricFamily("govah_terminals_enrolled", "Terminals with a certificate.", value=numbers.enrolled)
        yield GaugeMetricFamily("govah_facts_stored", "Facts up to the watermarks.", value=numbers.facts_through)
        yield GaugeMetricFamily("govah_commands_open", "Commands without a result.", value=numbers.commands_open)
        yield GaugeMetricFamily(
            "govah_certificates_expiring", "Certificates with less than 14 days to go.",
            value=numbers.certificates_expiring,
        )  # fmt: skip
        if newest_ms is not None:
            yield GaugeMetricFamily(
                "govah_newest_message_age_seconds", "Since any terminal was heard.",
                value=max(0, now_ms - newest_ms) / 1000,
            )  # fmt: skip


class Meter:
    """The registry of one application."""

    def __init__(self, engine: sa.Engine, now_ms: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Lazy(FleetCollector(engine, now_ms)))
        self.latency = Histogram(
            "govah_http_request_seconds", "Time to the first byte of an answer.", ["method", "route", "status"],
            buckets=_BUCKETS_S, registry=self.registry,
        )  # fmt: skip


class _Lazy(Collector):
    """Keeps the registry from scraping, that is reading the database, when the collector is registered."""

    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._inner.collect()


class Timed:
    """Measures every request by its route's template, so that no address, hence no login link, becomes a label."""

    def __init__(self, app: ASGIApp, *, latency: Histogram, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self.app = app
        self._latency = latency
        self._clock_s = clock_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began_s = self._clock_s()

        async def timed_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                labels = (str(scope["method"])[:8], str(route), str(message["status"]))
                self._latency.labels(*labels).observe(self._clock_s() - began_s)
            await send(message)

        await self.app(scope, receive, timed_send)


def router(meter: Meter) -> APIRouter:
    """Serves the figures to this machine only: they need no session."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/metrics")
    def metrics(request: Request) -> Response:
        if request.client is None or not _is_loopback(request.client.host):
            return Response(status_code=404)
        return Response(generate_latest(meter.registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

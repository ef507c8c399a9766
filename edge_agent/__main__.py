"""The agent: reads its configuration, opens the doors, and runs until it is told to stop.

``python -m edge_agent run CONFIG`` · ``python -m edge_agent enrol CONFIG --est URL`` (one-time code on stdin)
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Final

import structlog

from edge_agent import __version__, station
from edge_agent.cards.profile import SPINE_0
from edge_agent.cards.trust import TrustList
from edge_agent.clock import TrustedClock
from edge_agent.config import AgentConfig, load
from edge_agent.counter import Counter, CounterLimits
from edge_agent.enrolment import EnrolmentRequest, enrol
from edge_agent.errors import ConfigError, EnrolmentError, InquiryError, JournalError
from edge_agent.health import HealthReport, own_resident_kib
from edge_agent.inquiry import Credentials, Inquiry, Route
from edge_agent.journal import Journal, JournalLimits
from edge_agent.keys import Keys, load_keys
from edge_agent.kiosk import serve as kiosk
from edge_agent.kiosk.app import create_app
from edge_agent.kiosk.config import KioskConfig, Office, Service
from edge_agent.pcsc import Readers
from edge_agent.uplink import Uplink, UplinkConfig
from wire import cose
from wire.messages import FactKind

_log = structlog.get_logger()

EXIT_CONFIG: Final = 2
EXIT_JOURNAL: Final = 3
TIME_RETRY_S: Final = 1.0
TIME_RETRY_CAP_S: Final = 120.0
TIME_AGAIN_S: Final = 6 * 3600.0
PRUNE_EVERY_S: Final = 3600.0


def main() -> int:
    """Exit status: 0 stopped, 2 wrong configuration, 3 the journal cannot be written."""
    parser = argparse.ArgumentParser(prog="edge_agent", description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run_verb = verbs.add_parser("run", help="serve the counter")
    enrol_verb = verbs.add_parser("enrol", help="get a certificate; the one-time code is read from standard input")
    enrol_verb.add_argument("--est", required=True, help="base URL of the enrolment server")
    for verb in (run_verb, enrol_verb):
        verb.add_argument("config", type=Path)
    arguments = parser.parse_args()
    _log_as_json()
    try:
        config = load(arguments.config)
        if arguments.verb == "enrol":
            asyncio.run(_enrol(config, arguments.est, sys.stdin.readline().strip()))
        else:
            asyncio.run(_run(config))
    except ConfigError as exc:
        for problem in exc.problems:
            _log.error("configuration_refused", problem=problem)
        return EXIT_CONFIG
    except EnrolmentError as exc:
        _log.error("enrolment_refused", reason=str(exc))
        return EXIT_CONFIG
    except JournalError as exc:
        _log.error("journal_failed", reason=str(exc))
        return EXIT_JOURNAL
    return 0


async def _enrol(config: AgentConfig, est_url: str, code: str) -> None:
    certificate = await enrol(
        EnrolmentRequest(
            terminal=config.terminal,
            code=code,
            est_url=est_url,
            ca=config.path(config.fleet.ca),
            key=config.path(config.fleet.key),
            certificate=config.path(config.fleet.certificate),
        )
    )
    _log.info("enrolled", terminal=config.terminal, until=certificate.not_valid_after_utc.isoformat())


async def _run(config: AgentConfig) -> None:
    """Open the doors in the order in which they depend on each other, then run until SIGTERM or SIGINT.

    Raises:
        JournalError: it cannot be written any more; the supervisor restarts the agent.
    """
    keys = load_keys(config)
    clock = TrustedClock(time.monotonic)
    async with AsyncExitStack() as doors:
        limits = JournalLimits(max_bytes=config.journal.max_bytes, max_facts=config.journal.max_facts)
        journal = await doors.enter_async_context(Journal(config.path(config.journal_file), limits))
        prefix = config.reader.name_prefix
        readers = await doors.enter_async_context(
            Readers(allow=lambda name: name.startswith(prefix), chance=random.random)
        )
        registry = await doors.enter_async_context(_inquiry(config, keys, clock))
        counter = _counter(config, keys, journal=journal, readers=readers, registry=registry, clock=clock)
        uplink = _uplink(config, journal, clock, counter, readers)
        kiosk_config = _kiosk_config(config)
        listening = _listen(kiosk_config)
        await counter.end_interrupted()
        host, port = listening.getsockname()[:2]
        _say_ready({"kiosk": f"http://{host}:{port}/", "terminal": config.terminal, "pid": os.getpid()})
        await _until_told_to_stop(
            counter.run(),
            uplink.run(),
            _keep_time(clock, registry, random.random),
            _note_the_start(journal, clock),
            _keep_pruning(journal, clock),
            kiosk.serve(create_app(counter, kiosk_config), listening),
        )


async def _until_told_to_stop(*parts: Coroutine[Any, Any, None]) -> None:
    """Run `parts` side by side; a signal cancels them all, a failed journal ends the process."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    failed: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
            await stop.wait()
            for task in tasks:
                task.cancel()
    except* JournalError as problems:
        failed = _first_leaf(problems)
    if failed is not None:
        raise JournalError(str(failed)) from failed


def _first_leaf(error: BaseException) -> BaseException:
    """The cause inside nested groups, for a log line that says it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _listen(config: KioskConfig) -> socket.socket:
    try:
        return kiosk.listen(config)
    except OSError as exc:
        raise ConfigError([f"kiosk: {config.host}:{config.port} cannot be listened on: {exc.strerror}"]) from exc


def _uplink(config: AgentConfig, journal: Journal, clock: TrustedClock, counter: Counter, readers: Readers) -> Uplink:
    boot = secrets.token_bytes(16)
    health = HealthReport(
        boot=boot,
        journal=journal,
        clock=clock,
        counter=counter,
        readers=readers,
        monotonic=time.monotonic,
        resident_kib=own_resident_kib,
    )
    return Uplink(
        _uplink_config(config),
        journal,
        clock,
        boot=boot,
        agent=__version__,
        profile=SPINE_0.name,
        health=health,
        chance=random.random,
    )


def _counter(
    config: AgentConfig, keys: Keys, *, journal: Journal, readers: Readers, registry: Inquiry, clock: TrustedClock
) -> Counter:
    trusted = station.Trusted(
        card_issuers=keys.card_issuers or TrustList((), ()),
        registry_keys={cose.key_id(keys.registry): keys.registry},
        terminal=cose.thumbprint(keys.own.public_key()),
    )
    serve = functools.partial(
        station.serve_card,
        registry=registry,
        trusted=trusted,
        clock=clock,
        chance=secrets.token_bytes,
        monotonic=time.monotonic,
        trace=lambda line: _log.debug("apdu", trace=line),
    )
    return Counter(
        readers=readers,
        journal=journal,
        clock=clock,
        serve=serve,
        trust_list_loaded=keys.card_issuers is not None,
        limits=CounterLimits(config.visit.timeout_s, config.visit.card_s, config.visit.insertions_max),
        chance=secrets.token_bytes,
    )


def _inquiry(config: AgentConfig, keys: Keys, clock: TrustedClock) -> Inquiry:
    registry = config.registry
    route = Route(registry.nix_url, config.path(registry.nix_ca), registry.agency)
    try:
        return Inquiry(
            route,
            Credentials(keys.own, keys.certificate, keys.registry, keys.nix),
            now_ms=clock.now_ms,
            chance=secrets.token_bytes,
        )
    except (OSError, ValueError) as exc:
        raise ConfigError([f"registry: {exc}"]) from exc


async def _keep_time(clock: TrustedClock, registry: Inquiry, chance: Callable[[], float]) -> None:
    """Learn the time from the registry at once, when it is doubted, and long before the trust in it ends.

    Retries with full jitter, because after an outage every terminal of the country asks.
    """
    attempt = 0
    while True:
        try:
            clock.learn(await registry.trusted_time())
            attempt = 0
        except InquiryError as exc:
            attempt += 1
            _log.info("no_time_from_registry", reason=exc.detail)
        if attempt == 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(TIME_AGAIN_S):
                    await clock.doubted.wait()
            clock.doubted.clear()
        ceiling = min(TIME_RETRY_CAP_S, TIME_RETRY_S * 2 ** min(attempt, 8))
        await asyncio.sleep(chance() * ceiling)


async def _note_the_start(journal: Journal, clock: TrustedClock) -> None:
    """The fact that the agent started, once it can be dated."""
    await clock.known.wait()
    await journal.append(FactKind.AGENT_STARTED, clock.about_ms(), agent=__version__)


async def _keep_pruning(journal: Journal, clock: TrustedClock) -> None:
    while True:
        if clock.trusted:
            await journal.prune(clock.now_ms())
        await asyncio.sleep(PRUNE_EVERY_S)


def _uplink_config(config: AgentConfig) -> UplinkConfig:
    fleet = config.fleet
    return UplinkConfig(
        terminal=config.terminal,
        host=fleet.host,
        port=fleet.port,
        ca=config.path(fleet.ca),
        certificate=config.path(fleet.certificate),
        key=config.path(fleet.key),
        health_interval_s=fleet.health_interval_s,
        retry_base_s=fleet.retry_base_s,
        retry_cap_s=fleet.retry_cap_s,
    )


def _kiosk_config(config: AgentConfig) -> KioskConfig:
    offices = tuple(
        Office(
            name=office.name,
            audience=office.audience,
            office_class=office.office_class,
            token_sha256=bytes.fromhex(office.token_sha256),
            services=tuple(
                Service(sheet.id, sheet.title_fa, sheet.title_en, sheet.min_loa, sheet.legal_basis)
                for sheet in office.services
            ),
        )
        for office in config.offices
    )
    try:
        return KioskConfig(config.terminal, offices, config.kiosk.host, config.kiosk.port)
    except ValueError as exc:
        raise ConfigError([str(exc)]) from exc


def _say_ready(facts: dict[str, Any]) -> None:
    """One JSON line on standard output, for whoever started the agent."""
    sys.stdout.write(json.dumps({"ready": True, **facts}) + "\n")
    sys.stdout.flush()


def _log_as_json() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("INFO"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(main())

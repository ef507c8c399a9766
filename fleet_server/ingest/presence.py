"""What a terminal's messages say about it: newest wins, repeats change nothing. No I/O, no clock.

Messages are delivered at least once and ordered only per topic, so each is guarded: a state by (journal, session), a
health report by the boot that the last birth announced and by (session, uptime, time). The will is a hint; silence
decides (`gone_silent`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from wire.messages import Health, Presence, State

NEVER: Final = "never"
ONLINE: Final = "online"
LEFT: Final = "left"
LOST: Final = "lost"


class Seen(msgspec.Struct, frozen=True, gc=False):
    """The columns of `db.terminals` that the ingest owns, by the same names."""

    presence: str = NEVER
    last_seen_ms: int | None = None
    boot: bytes | None = None
    session: int | None = None
    session_ended: bool = False
    journal: bytes | None = None
    state_at_ms: int | None = None
    agent: str | None = None
    profile: str | None = None
    reader: int | None = None
    clock_trusted: bool | None = None
    blocked: list[int] | None = None
    facts_unsent: int | None = None
    facts_kept: int | None = None
    journal_bytes: int | None = None
    rss_kib: int | None = None
    uptime_s: int | None = None
    health_session: int | None = None
    health_at_ms: int | None = None


COLUMNS: Final = Seen.__struct_fields__


class Change(NamedTuple):
    """A row for the timeline."""

    kind: str
    detail: dict[str, Any]


def touched(seen: Seen, now_ms: int, *, coarse_ms: int) -> Seen:
    """The terminal has been heard at `now_ms`; finer than `coarse_ms` is not worth a write."""
    # a clock that was set back must not keep the old time until it has caught up
    if seen.last_seen_ms is not None and 0 <= now_ms - seen.last_seen_ms < coarse_ms:
        return seen
    return msgspec.structs.replace(seen, last_seen_ms=now_ms)


def after_state(seen: Seen, state: State, now_ms: int, *, journal_known: bool) -> tuple[Seen, list[Change]]:
    """What is known after `state`. `journal_known`: a birth of its journal has been seen before."""
    if state.presence is Presence.BIRTH:
        return _after_birth(seen, state, now_ms, journal_known=journal_known)
    if state.journal != seen.journal or not _session_is_live(seen, state.session):
        return seen, []
    word = LEFT if state.presence is Presence.LEAVING else LOST
    heard = {"last_seen_ms": now_ms} if word == LEFT else {}  # the broker sends the will, not the terminal
    after = msgspec.structs.replace(
        seen, presence=word, session=state.session, session_ended=True, boot=state.boot, **heard
    )
    detail: dict[str, Any] = {"session": state.session}
    if word == LOST:
        detail["by"] = "will"
    return after, [Change(word, detail)] if seen.presence != word else []


def _after_birth(seen: Seen, state: State, now_ms: int, *, journal_known: bool) -> tuple[Seen, list[Change]]:
    if seen.journal is None:
        newer = True
    elif state.journal == seen.journal:
        newer = seen.session is None or state.session > seen.session
    else:
        # a replaced storage card: its clock may be wrong, but its journal is new; an old card that comes back is older
        newer = not journal_known or state.at_ms > (seen.state_at_ms or 0)
    if not newer:
        return seen, []
    after = msgspec.structs.replace(
        seen,
        presence=ONLINE,
        last_seen_ms=now_ms,
        boot=state.boot,
        session=state.session,
        session_ended=False,
        journal=state.journal,
        state_at_ms=state.at_ms,
        agent=state.agent,
        profile=state.profile,
    )
    if state.journal != seen.journal:
        after = msgspec.structs.replace(after, health_session=None, uptime_s=None, health_at_ms=None)
    changes = [Change(ONLINE, {"session": state.session})]
    if seen.journal is not None and state.journal != seen.journal:
        changes.append(Change("journal_replaced", {"journal": state.journal.hex()}))
    if state.agent != seen.agent:
        changes.append(Change("version", {"from": seen.agent, "to": state.agent}))
    if state.profile != seen.profile:
        changes.append(Change("profile", {"from": seen.profile, "to": state.profile}))
    return after, changes


def after_health(seen: Seen, health: Health, now_ms: int) -> tuple[Seen, list[Change]]:
    """What is known after `health`; nothing new when a newer report is known."""
    if not _health_is_newer(seen, health):
        return seen, []
    changes = []
    presence = seen.presence
    if presence != ONLINE and _session_is_live(seen, health.session):
        presence = ONLINE
        changes.append(Change(ONLINE, {"session": health.session, "by": "health"}))
    blocked = [int(code) for code in health.blocked]
    for kind, old, new in (
        ("reader", seen.reader, int(health.reader)),
        ("blocked", seen.blocked, blocked),
        ("clock_trusted", seen.clock_trusted, health.clock_trusted),
    ):
        if old != new:
            changes.append(Change(kind, {"from": old, "to": new}))
    after = msgspec.structs.replace(
        seen,
        presence=presence,
        last_seen_ms=now_ms,
        reader=int(health.reader),
        clock_trusted=health.clock_trusted,
        blocked=blocked,
        facts_unsent=health.facts_unsent,
        facts_kept=health.facts_kept,
        journal_bytes=health.journal_bytes,
        rss_kib=health.rss_kib,
        uptime_s=health.uptime_s,
        health_session=health.session,
        health_at_ms=health.at_ms,
    )
    return after, changes


def gone_silent(seen: Seen, *, silent_ms: int, limit_ms: int) -> tuple[Seen, list[Change]]:
    """What is known after `silent_ms` without a message (the age rule)."""
    if seen.presence != ONLINE or silent_ms <= limit_ms:
        return seen, []
    after = msgspec.structs.replace(seen, presence=LOST)
    return after, [Change(LOST, {"session": seen.session, "by": "silence", "silent_s": silent_ms // 1000})]


def _session_is_live(seen: Seen, session: int) -> bool:
    """Whether `session` is the newest known and its end has not been seen, or is newer still."""
    if seen.session is None or session > seen.session:
        return True
    return session == seen.session and not seen.session_ended


def _health_is_newer(seen: Seen, health: Health) -> bool:
    if seen.session is not None and health.session < seen.session:
        return False
    # sessions of a replaced journal began anew, and the agent with it: its old reports may have the larger numbers
    if seen.boot is not None and health.boot != seen.boot:
        return False
    if seen.health_session is None or seen.uptime_s is None or seen.health_at_ms is None:
        return True
    known = (seen.health_session, seen.uptime_s, seen.health_at_ms)
    return (health.session, health.uptime_s, health.at_ms) > known

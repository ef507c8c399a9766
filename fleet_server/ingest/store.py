"""One batch, one transaction: facts once, watermarks, the newest of every terminal, results, timeline, anomalies.

What is kept in memory (the terminals' newest rows and their watermarks) is a copy of what is committed: it changes only
after the commit, and is read back from the tables when a process starts. There is one ingest per database
(`process.py` holds a lock), so nobody else writes those columns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from fleet_server import db
from fleet_server.broker.door import Delivery
from fleet_server.ingest import presence
from fleet_server.ingest.anomalies import AnomalyBook
from fleet_server.ingest.batch import Batch, FactRow, Reject, read
from fleet_server.ingest.presence import COLUMNS, Change, Seen
from fleet_server.ingest.recall import JournalKey, load_islands, load_mark, load_seen, other_bytes
from fleet_server.ingest.timeline import TimelineBook
from fleet_server.ingest.watermark import Watermark
from wire.failures import Failure
from wire.messages import Health, Presence, Result, State

TOUCH_COARSE_MS: Final = 1000
JOURNALS_MAX: Final = 64
"""Per terminal, ever: a new journal means a new storage card or a new file."""
REFUSED_BY_DATABASE: Final = (sa.exc.DataError, sa.exc.IntegrityError)
"""The database's word on a value. Its other errors speak of the database, and no message may be given up for them."""
_COMMAND_EXPIRED: Final = int(Failure.COMMAND_EXPIRED)


@dataclass(frozen=True, slots=True)
class Committed:
    """What one transaction changed, for those who tell terminals and count."""

    facts_new: int
    advanced: frozenset[JournalKey]
    """Journals whose watermark rose, or that sent a fact again which is stored already."""
    born: frozenset[JournalKey]
    """Births, new or repeated: they are owed a mark with resync and the open commands."""
    rejects: Counter[str]
    heard: frozenset[str] = frozenset()
    """Terminals of which something came that only they can have sent just now."""


@dataclass(slots=True)
class _Work:
    """What the open transaction will have changed; thrown away when it fails."""

    at_ms: int
    seen: dict[str, Seen] = field(default_factory=dict)
    marks: dict[JournalKey, Watermark] = field(default_factory=dict)
    reported: dict[JournalKey, tuple[int | None, int]] = field(default_factory=dict)
    timeline: list[dict[str, Any]] = field(default_factory=list)
    advanced: set[JournalKey] = field(default_factory=set)
    born: set[JournalKey] = field(default_factory=set)
    rejects: Counter[str] = field(default_factory=Counter)
    heard: set[str] = field(default_factory=set)
    facts_new: int = 0


class Store:
    """`new_id` gives row ids for a time in ms, ascending."""

    def __init__(self, engine: sa.Engine, *, new_id: Callable[[int], bytes]) -> None:
        self._engine = engine
        self._new_id = new_id
        self._seen: dict[str, Seen] = {}
        self._marks: dict[JournalKey, Watermark] = {}
        self._journal_counts: Counter[str] = Counter()
        self._births: set[JournalKey] = set()
        self._anomalies = AnomalyBook(new_id)
        self._timeline = TimelineBook()

    @property
    def journals(self) -> list[JournalKey]:
        """Every journal that is known."""
        return list(self._marks)

    @property
    def seen(self) -> dict[str, Seen]:
        """The newest of every terminal that has been heard of since the start. Read only."""
        return self._seen

    def stored_through(self, key: JournalKey) -> int:
        """The watermark as it is committed; 0 for a journal that is not known."""
        mark = self._marks.get(key)
        return mark.stored if mark is not None else 0

    def has_gap(self, key: JournalKey) -> bool:
        """Whether facts beyond the watermark are stored, so that others before them are missing."""
        mark = self._marks.get(key)
        return mark is not None and bool(mark.islands)

    def load(self) -> None:
        """Read everything that is known, at the start."""
        with db.reading(self._engine) as connection:
            self._seen.update(load_seen(connection, None))
            journal, fact = db.journals.c, db.facts.c
            known = sa.select(journal.terminal, journal.journal, journal.stored_through, journal.last_seq)
            for row in connection.execute(known):
                self._marks[row.terminal, row.journal] = Watermark(row.stored_through)
                self._journal_counts[row.terminal] += 1
                if row.last_seq is not None:
                    self._births.add((row.terminal, row.journal))
            beyond = sa.and_(
                fact.terminal == journal.terminal, fact.journal == journal.journal, fact.seq > journal.stored_through
            )
            gaps = sa.select(journal.terminal, journal.journal).where(sa.exists().where(beyond))
            for terminal, journal_id in connection.execute(gaps).all():
                self._marks[terminal, journal_id] = load_mark(connection, (terminal, journal_id))

    def commit(self, deliveries: Sequence[Delivery], now_ms: int) -> Committed:
        """Store one batch. When this returns, everything in it is on disk or will never be wanted.

        Raises:
            sqlalchemy.exc.DBAPIError: one of `REFUSED_BY_DATABASE`: something in the batch breaks a rule of the tables.
                Any other: the database cannot be written just now; nothing changed, try again.
        """
        batch = read(deliveries)
        work = _Work(now_ms)
        with db.writing(self._engine) as connection:
            self._refuse_unknown(connection, batch, work)
            self._refuse_journals(batch)
            self._store_facts(connection, batch.facts, work)
            self._store_reports(connection, batch.reports, work)
            self._store_results(connection, batch.results, work)
            for reject in batch.rejects:
                self._reject(connection, reject, work)
            for terminal, more_bytes in batch.more_said:
                self._anomalies.note(connection, terminal, now_ms, "unknown_keys", {"more_bytes": more_bytes})
            self._write(connection, work)
        return self._done(work)

    def commit_each(self, deliveries: Sequence[Delivery], now_ms: int) -> list[Committed]:
        """`commit` one by one, for a batch that the database refused as a whole: what it refuses alone is counted and
        given up, so that one message can never stop the fleet.

        Raises:
            sqlalchemy.exc.DBAPIError: as `commit`; what was stored before stays stored.
        """
        done = []
        for delivery in deliveries:
            try:
                done.append(self.commit([delivery], now_ms))
            except REFUSED_BY_DATABASE:
                reject = Committed(0, frozenset(), frozenset(), Counter({"refused_by_database": 1}))
                done.append(reject)
        return done

    def mark_silent(self, *, now_ms: int, silent_ms: Callable[[str], int], limit_ms: int) -> int:
        """Apply the age rule to everyone who is online; returns how many are lost by it.

        Args:
            now_ms: the wall clock, for rows only.
            silent_ms: for how long a terminal was silent while we listened (`silence.Silence`).
            limit_ms: longer than that, and it is lost.
        """
        work = _Work(now_ms)
        for serial, seen in self._seen.items():
            after, changes = presence.gone_silent(seen, silent_ms=silent_ms(serial), limit_ms=limit_ms)
            if changes:
                work.seen[serial] = after
                self._note(work, serial, changes)
        if work.seen:
            with db.writing(self._engine) as connection:
                self._write(connection, work)
            self._done(work)
        return len(work.seen)

    def _refuse_unknown(self, connection: sa.Connection, batch: Batch, work: _Work) -> None:
        """Take out what comes from a terminal that is not listed: a certificate of ours is not enough (test S3). Its
        facts stay on it, because no mark ever says that they are stored."""
        missing = batch.terminals() - self._seen.keys()
        if not missing:
            return
        found = load_seen(connection, missing)
        self._seen.update(found)
        unknown = missing - found.keys()
        if not unknown:
            return
        work.rejects["unknown_terminal"] += batch.drop(unknown)

    def _refuse_journals(self, batch: Batch) -> None:
        """Take out what would give a terminal more than `JOURNALS_MAX` journals. Its facts stay on it, as above."""
        counts: Counter[str] = Counter()
        too_many = set()
        for key in batch.new_journals(self._marks):
            counts[key[0]] += 1
            if self._journal_counts[key[0]] + counts[key[0]] > JOURNALS_MAX:
                too_many.add(key)
        if too_many:
            batch.refuse_journals(too_many, "too_many_journals")

    def _store_facts(self, connection: sa.Connection, facts: list[FactRow], work: _Work) -> None:
        rows: dict[tuple[str, bytes, int], FactRow] = {}
        for fact in facts:
            first = rows.setdefault((fact.terminal, fact.journal, fact.seq), fact)
            if first.body_hash != fact.body_hash:
                self._conflict(connection, fact, work)
        if not rows:
            return
        work.facts_new = db.insert_ignoring_plain(
            connection, db.facts, list(map(msgspec.structs.astuple, rows.values()))
        )
        if work.facts_new != len(rows):
            for fact in other_bytes(connection, list(rows.values())):
                self._conflict(connection, fact, work)
        by_journal: dict[JournalKey, list[int]] = {}
        for terminal, journal, seq in rows:
            by_journal.setdefault((terminal, journal), []).append(seq)
        for key, seqs in by_journal.items():
            before = self._mark(connection, key, work)
            after = before.with_stored(seqs)
            if not after.complete and after.stored != before.stored:
                after = load_islands(connection, key, after.stored)
            work.marks[key] = after
            work.advanced.add(key)
        for terminal in {key[0] for key in by_journal}:
            seen = self._newest(work, terminal)
            work.heard.add(terminal)
            work.seen[terminal] = presence.touched(seen, work.at_ms, coarse_ms=TOUCH_COARSE_MS)

    def _conflict(self, connection: sa.Connection, fact: FactRow, work: _Work) -> None:
        """The same key with other bytes: the first stays, and it is an alarm (a cloned or rewritten journal)."""
        work.rejects["fact_conflict"] += 1
        detail = {"journal": fact.journal.hex(), "seq": fact.seq, "hash": fact.body_hash.hex()}
        self._anomalies.note(connection, fact.terminal, work.at_ms, "fact_conflict", detail)

    def _store_reports(
        self, connection: sa.Connection, reports: list[tuple[str, State | Health, int]], work: _Work
    ) -> None:
        for terminal, report, received_ms in reports:
            seen = self._newest(work, terminal)
            if isinstance(report, Health):
                after, changes = presence.after_health(seen, report, received_ms)
            else:
                key = (terminal, report.journal)
                # not by this batch: a new journal's first facts may share it with the birth that announces them
                known = key in self._births or key in work.born
                after, changes = presence.after_state(seen, report, received_ms, journal_known=known)
                if report.presence is Presence.BIRTH:
                    self._birth(connection, key, report, work)
            if after is not seen:
                work.seen[terminal] = after
                if isinstance(report, Health) or report.presence is not Presence.LOST:
                    work.heard.add(terminal)
            self._note(work, terminal, changes)

    def _birth(self, connection: sa.Connection, key: JournalKey, state: State, work: _Work) -> None:
        """Note what the terminal still has; facts below that which we never got are lost, and that is said aloud."""
        work.born.add(key)
        work.reported[key] = (state.first_seq, state.last_seq or 0)
        mark, lost = self._mark(connection, key, work).with_first(state.first_seq or 0)
        work.marks[key] = mark
        if lost:
            detail = {"journal": key[1].hex(), "facts": lost, "through": (state.first_seq or 0) - 1}
            self._anomalies.note(connection, key[0], work.at_ms, "facts_lost", detail)

    def _store_results(self, connection: sa.Connection, results: list[tuple[str, Result, int]], work: _Work) -> None:
        for terminal, result, received_ms in results:
            table = db.commands.c
            mine = sa.and_(table.terminal == terminal, table.id == result.id)
            closed = connection.execute(
                sa.update(db.commands)
                .where(mine, sa.or_(table.result.is_(None), table.result == _COMMAND_EXPIRED))
                .where(sa.or_(table.result.is_(None), table.result != int(result.failure)))
                .values(result=int(result.failure), result_ms=received_ms)
            )
            if closed.rowcount:
                detail = {"id": result.id.hex(), "failure": int(result.failure)}
                self._note(work, terminal, [Change("command_done", detail)])
            elif connection.execute(sa.select(table.id).where(mine)).first() is None:
                work.rejects["result_unknown"] += 1
                detail = {"id": result.id.hex()}
                self._anomalies.note(connection, terminal, work.at_ms, "result_unknown", detail)

    def _reject(self, connection: sa.Connection, reject: Reject, work: _Work) -> None:
        work.rejects[reject.kind] += 1
        if reject.terminal is not None:
            detail = {"reason": reject.reason, "size_bytes": reject.size_bytes}
            self._anomalies.note(connection, reject.terminal, work.at_ms, reject.kind, detail)

    def _note(self, work: _Work, terminal: str, changes: Iterable[Change]) -> None:
        for change in changes:
            row_id = self._new_id(work.at_ms)
            work.timeline.append({"terminal": terminal, "id": row_id, "at_ms": work.at_ms, **change._asdict()})

    def _newest(self, work: _Work, terminal: str) -> Seen:
        return work.seen.get(terminal) or self._seen[terminal]

    def _mark(self, connection: sa.Connection, key: JournalKey, work: _Work) -> Watermark:
        mark = work.marks.get(key) or self._marks.get(key)
        if mark is None:
            mark = work.marks[key] = load_mark(connection, key)
        return mark

    def _write(self, connection: sa.Connection, work: _Work) -> None:
        changed = {serial: seen for serial, seen in work.seen.items() if seen is not self._seen[serial]}
        if changed:
            rows = [{"this_serial": serial, **msgspec.structs.asdict(seen)} for serial, seen in changed.items()]
            connection.execute(_UPDATE_TERMINAL, rows)
        marks = []
        for key, mark in work.marks.items():
            old = self._marks.get(key)
            if old is None or old.stored != mark.stored:
                marks.append({"terminal": key[0], "journal": key[1], "stored_through": mark.stored})
        db.upsert(connection, db.journals, marks, ["stored_through"])
        reported = [
            {
                "terminal": key[0],
                "journal": key[1],
                "stored_through": work.marks.get(key, Watermark()).stored,
                "first_seq": span[0],
                "last_seq": span[1],
            }
            for key, span in work.reported.items()
        ]
        db.upsert(connection, db.journals, reported, ["first_seq", "last_seq"])
        self._timeline.write(connection, work.timeline)

    def _done(self, work: _Work) -> Committed:
        self._seen.update(work.seen)
        self._journal_counts.update(key[0] for key in work.marks.keys() - self._marks.keys())
        self._marks.update(work.marks)
        self._births |= work.born
        heard = frozenset(work.heard)
        return Committed(work.facts_new, frozenset(work.advanced), frozenset(work.born), work.rejects, heard)


_UPDATE_TERMINAL: Final = (
    sa.update(db.terminals)
    .where(db.terminals.c.serial == sa.bindparam("this_serial"))
    .values({name: sa.bindparam(name) for name in COLUMNS})
)

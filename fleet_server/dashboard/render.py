"""Turns values into HTML: the templates, and the words and figures that they may use.

Everything that a terminal said is text to be escaped: autoescape is on for every template, nothing is marked safe, and
`plain` takes out what could reorder or hide text even when it is escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fleet_server.dashboard import jalali, words
from fleet_server.dashboard.assets import Assets
from fleet_server.dashboard.words import LANGS, Lang, pick
from fleet_server.queries import Certificate, Event, OutboxRow
from wire.failures import Failure

TEMPLATES: Final = Path(__file__).parent / "templates"
SHOWN_MAX: Final = 256
_ZWNJ: Final = "\u200c"
"""Zero width non-joiner: part of Persian spelling, and unlike its neighbours it reorders nothing."""
_UNITS: Final = ((24 * 3600, "d"), (3600, "h"), (60, "min"), (1, "s"))
DAY_MS: Final = 24 * 3600 * 1000


class Renderer:
    """Renders templates for one application. `now_ms` is the server's clock."""

    def __init__(self, assets: Assets, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
            lstrip_blocks=True,
        )  # fmt: skip
        self._templates.globals["asset"] = assets.url

    def html(self, name: str, lang: Lang, **values: Any) -> str:
        """The template `name` in `lang`."""
        words_in = Words(lang, self._now_ms())
        return self._templates.get_template(name).render(
            lang=lang,
            direction="rtl" if lang == "fa" else "ltr",
            other=next(each for each in LANGS if each != lang),
            t=words_in.text,
            w=words_in,
            **values,
        )


class Words:
    """What a template may call, in one language at one moment."""

    presence_order = tuple(words.PRESENCE)

    def __init__(self, lang: Lang, now_ms: int) -> None:
        self.lang: Lang = lang
        self.now_ms = now_ms

    def text(self, key: str) -> str:
        """A fixed text of the page."""
        return pick(words.TEXT[key], self.lang)

    def plain(self, value: object) -> str:
        """`value` as one line of at most `SHOWN_MAX` visible characters; still to be escaped."""
        return "".join(c if c.isprintable() or c == _ZWNJ else "\ufffd" for c in str(value)[:SHOWN_MAX])

    def num(self, value: float, places: int = 0) -> str:
        return jalali.number(value, self.lang, places=places)

    def date(self, at_ms: int) -> str:
        return jalali.date(at_ms, self.lang)

    def moment(self, at_ms: int) -> str:
        return jalali.moment(at_ms, self.lang)

    def ago(self, at_ms: int) -> str:
        """How long since `at_ms`, coarsely; `dashboard.js` says the same and keeps it moving."""
        past_s = max(0, self.now_ms - at_ms) // 1000
        return self.text("ago_now") if past_s < 5 else self._span("ago", past_s)

    def span(self, seconds: int) -> str:
        """A duration, coarsely."""
        return self._span("for", seconds)

    def _span(self, kind: str, seconds: int) -> str:
        unit_s, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
        return self.text(f"{kind}_{unit}").format(self.num(seconds // unit_s))

    def presence(self, word: str) -> str:
        return words.named(words.PRESENCE, word, self.lang)

    def presence_means(self, word: str) -> str:
        return words.named(words.PRESENCE_MEANS, word, self.lang)

    def reader(self, state: int) -> str:
        return words.named(words.READER, state, self.lang)

    def reader_tone(self, state: int) -> str:
        return words.READER_TONE.get(state, "bad")

    def blocked(self, code: int) -> str:
        found = words.BLOCKED.get(code)
        return pick(found, self.lang) if found else f"{self.text('code')} {jalali.digits(code, self.lang)}"

    def failure(self, code: int) -> str:
        return words.failure_sentence(code, self.lang)

    def fact(self, kind: int) -> str:
        return words.named(words.FACT, kind, self.lang)

    def command(self, row: OutboxRow) -> tuple[str, str]:
        """Tone and words for where a command stands."""
        if row.result is not None:
            done = row.result == Failure.NONE
            return ("good" if done else "bad"), (self.text("command_done") if done else self.failure(row.result))
        if row.not_after_ms <= self.now_ms:
            return "warn", self.text("command_expired")
        return "busy", self.text("command_waiting" if row.sent_ms is None else "command_sent")

    def command_name(self, row: OutboxRow) -> str:
        return words.named(words.COMMAND, row.kind, self.lang)

    def certificate(self, row: Certificate) -> tuple[str, str]:
        """Tone and word for what a certificate is worth now."""
        if row.revoked_ms is not None:
            return "bad", self.text("revoked")
        if self.now_ms < row.not_before_ms:
            return "warn", self.text("not_yet")
        if self.now_ms >= row.not_after_ms:
            return "bad", self.text("expired")
        return "good", self.text("valid")

    def days_left(self, row: Certificate) -> int:
        return max(0, (row.not_after_ms - self.now_ms) // DAY_MS)

    def event(self, row: Event) -> str:
        found = words.EVENT.get(row.kind)
        return pick(found, self.lang) if found else self.plain(row.kind)

    def event_change(self, row: Event) -> tuple[str, str] | None:
        """What a change in the timeline went from and to, in words."""
        if "from" in row.detail and "to" in row.detail:
            return self._value(row.kind, row.detail["from"]), self._value(row.kind, row.detail["to"])
        return None

    def event_detail(self, row: Event) -> str:
        """What else a row of the timeline says, as far as this version knows its kind."""
        match row.kind, row.detail:
            case "command_done", {"failure": int(code)}:
                return self.failure(code)
            case "lost", {"silent_s": int(seconds)}:
                return f"{self.text('after_silence')} {self.span(seconds)}"
            case "journal_replaced", {"journal": str(journal)}:
                return self.plain(journal[:8])
            case _:
                return ""

    def _value(self, kind: str, value: object) -> str:
        """One side of a change."""
        if value is None or value == []:
            return self.text("none") if kind == "blocked" else "—"
        match kind:
            case "reader" if isinstance(value, int):
                return self.reader(value)
            case "blocked" if isinstance(value, list):
                return ("، " if self.lang == "fa" else ", ").join(self.blocked(code) for code in value)
            case "clock_trusted":
                return self.text("trusted" if value else "not_trusted")
            case _:
                return self.plain(value)

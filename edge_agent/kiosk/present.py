"""From a `Screen` to what the template prints: pure, so that every state can be looked at without a terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_agent.kiosk import qr, words
from edge_agent.kiosk.config import KioskConfig
from edge_agent.kiosk.desk import BUSY_STEPS, Screen, Step
from edge_agent.kiosk.words import Lang, Look, pick
from wire.failures import SENTENCES, Failure, Sentence
from wire.messages import ReaderState


@dataclass(frozen=True, slots=True)
class TrailStep:
    title: str
    state: str
    """``past``, ``now`` or ``ahead``."""


@dataclass(frozen=True, slots=True)
class Reason:
    code: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One screen in one language. Text is not escaped here; the template does that."""

    step: str
    tone: str
    picture: str
    word: str
    sentence: str | None
    next: str | None
    busy: bool
    may_start: bool
    reasons: tuple[Reason, ...]
    failure_code: int | None
    trail: tuple[TrailStep, ...]
    service: str | None
    act_reference: str | None
    min_loa: int | None
    loa: int | None
    level: str | None
    meaning: str | None
    holder_name: str | None
    progress_pct: int | None
    tracking_groups: tuple[str, ...]
    qr_svg: str | None
    since_ms: int
    visit: str | None
    visits_today: int


def present(screen: Screen, config: KioskConfig, lang: Lang) -> Shown:
    """What the page says of `screen` in `lang`."""
    look = _look(screen)
    reasons = _reasons(screen)
    failed = screen.step in {Step.FAILED, Step.BLOCKED} or _again(screen)
    done = screen.step is Step.DONE
    return Shown(
        step=screen.step.value,
        tone=look.tone,
        picture=look.picture,
        word=pick(look.word, lang),
        sentence=_sentence(screen.failure, lang) if failed and look.next is None and not reasons else None,
        next=pick(look.next, lang) if look.next else None,
        busy=screen.step in BUSY_STEPS,
        reasons=tuple(Reason(int(reason), _sentence(reason, lang)) for reason in reasons),
        may_start=screen.step not in BUSY_STEPS and not screen.reasons,
        failure_code=int(screen.failure) if failed else None,
        trail=_trail(screen.step, lang),
        service=_service_title(screen.service, config, lang),
        act_reference=screen.act_reference,
        min_loa=screen.min_loa,
        loa=screen.loa if done else None,
        level=_of_level(words.LEVELS, screen.loa if done else None, lang),
        meaning=_of_level(words.MEANING, screen.loa if done else None, lang),
        holder_name=screen.holder_name,
        progress_pct=screen.progress_pct if screen.step is Step.READING else None,
        tracking_groups=tuple(screen.tracking_code.split("-")) if screen.tracking_code else (),
        qr_svg=qr.svg(screen.assertion, pick(words.TEXT["qr"], lang)) if done and screen.assertion else None,
        since_ms=screen.since_ms,
        visit=screen.visit,
        visits_today=screen.visits_today,
    )


def _look(screen: Screen) -> Look:
    if screen.step is Step.BLOCKED:
        first = next(iter(_reasons(screen)), screen.failure)
        look = words.failure_look(first, blocked=True)
        return Look(words.BLOCKED, look.picture, look.tone)
    if screen.step is Step.FAILED:
        return words.failure_look(screen.failure, blocked=False)
    if _again(screen):
        return Look(words.AGAIN, words.failure_look(screen.failure, blocked=False).picture, "warn")
    look = words.STEPS[screen.step]
    if screen.step is Step.DONE and screen.reader is not ReaderState.CARD_PRESENT:
        return replace(look, next=words.DONE_AND_GONE)
    return look


def _again(screen: Screen) -> bool:
    """Whether the visit goes on and waits for the card once more after a first trouble with it."""
    return screen.step is Step.WAITING_FOR_CARD and screen.failure is not Failure.NONE


def _reasons(screen: Screen) -> tuple[Failure, ...]:
    if screen.step is not Step.BLOCKED:
        return ()
    return screen.reasons or (screen.failure,)


def _sentence(failure: Failure, lang: Lang) -> str:
    return pick(SENTENCES[failure], lang)


def _trail(step: Step, lang: Lang) -> tuple[TrailStep, ...]:
    """The steps of the visit with where it is now; empty when no visit is under way or done."""
    order = [named for named, _ in words.TRAIL]
    if step not in order:
        return ()
    now = order.index(step)
    finished = step is Step.DONE
    return tuple(
        TrailStep(pick(title, lang), "past" if index < now or finished else "now" if index == now else "ahead")
        for index, (_, title) in enumerate(words.TRAIL)
    )


def _service_title(service_id: str | None, config: KioskConfig, lang: Lang) -> str | None:
    if service_id is None:
        return None
    for office in config.offices:
        if found := office.service(service_id):
            return found.title_fa if lang == "fa" else found.title_en
    return service_id


def _of_level(table: dict[int, Sentence], loa: int | None, lang: Lang) -> str | None:
    found = table.get(loa) if loa is not None else None
    return pick(found, lang) if found else None

"""Every word on the kiosk page that is not a failure's sentence, in Persian and English.

`STEPS` and `FAILURES` give one status word, one picture and one tone for each thing that can happen; what a failure
means and what to do next is said in `wire.failures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from edge_agent.kiosk.desk import Step
from wire.failures import Failure, Sentence

Lang = Literal["fa", "en"]
LANGS: Final[tuple[Lang, ...]] = ("fa", "en")

Tone = Literal["calm", "busy", "good", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Look:
    """How one state looks: a status word of at most four words, a picture of `pictures.html`, a tone."""

    word: Sentence
    picture: str
    tone: Tone
    next: Sentence | None = None
    """The next step; None where the failure's own sentence says it."""


STEPS: Final[dict[Step, Look]] = {
    Step.READY: Look(
        Sentence("آمادهٔ پذیرش", "Ready"),
        "ready",
        "calm",
        Sentence(
            "درخواست را از نرم‌افزار دفتر بفرستید، یا مراجعه را همین‌جا آغاز کنید.",
            "Send the request from the office software, or start the visit here.",
        ),
    ),
    Step.WAITING_FOR_CARD: Look(
        Sentence("کارت را بگذارید", "Insert the card"),
        "insert",
        "busy",
        Sentence("تراشه رو به بالا و به سوی دستگاه باشد.", "Chip up, and towards the terminal."),
    ),
    Step.READING: Look(
        Sentence("خواندن کارت", "Reading the card"),
        "reading",
        "busy",
        Sentence("کارت را تا پایان کار برندارید.", "Leave the card in until the end."),
    ),
    Step.PROVING: Look(
        Sentence("آزمون اصالت تراشه", "Proving the chip"),
        "proving",
        "busy",
        Sentence("کارت را تا پایان کار برندارید.", "Leave the card in until the end."),
    ),
    Step.ASKING_REGISTRY: Look(
        Sentence("استعلام از ثبت احوال", "Asking the registry"),
        "asking",
        "busy",
        Sentence(
            "پاسخ از راه مرکز ملی تبادل اطلاعات می‌رسد؛ کارت را برندارید.",
            "The answer comes through the national exchange; leave the card in.",
        ),
    ),
    Step.DONE: Look(
        Sentence("گواهی صادر شد", "Assertion issued"),
        "done",
        "good",
        Sentence(
            "کارت را به شهروند بازگردانید؛ رونوشت از کارت لازم نیست.",
            "Give the card back; no copy of it is needed.",
        ),
    ),
}

AGAIN: Final = Sentence("کارت را دوباره بگذارید", "Insert the card again")
"""WAITING_FOR_CARD after a trouble that another try may mend."""

BLOCKED: Final = Sentence("خارج از سرویس", "Out of service")

FAILURES: Final[dict[Failure, Look]] = {
    Failure.CARD_GONE: Look(Sentence("کارت برداشته شد", "Card removed"), "card_out", "warn"),
    Failure.CARD_MUTE: Look(Sentence("کارت پاسخ نمی‌دهد", "Card does not answer"), "card_turn", "warn"),
    Failure.CARD_UNSUPPORTED: Look(Sentence("کارت ناشناخته", "Unknown card"), "card_unknown", "warn"),
    Failure.CARD_NOT_GENUINE: Look(Sentence("اصالت تراشه اثبات نشد", "Chip not proven genuine"), "chip_bad", "bad"),
    Failure.CARD_DATA_NOT_AUTHENTIC: Look(
        Sentence("داده‌های کارت معتبر نیست", "Card data not authentic"), "data_bad", "bad"
    ),
    Failure.CARD_EXPIRED: Look(Sentence("کارت منقضی است", "Card has expired"), "card_expired", "bad"),
    Failure.CARD_READ_ERROR: Look(Sentence("خواندن ناتمام ماند", "Reading not finished"), "card_again", "warn"),
    Failure.CARD_NOT_VALID_ANY_MORE: Look(Sentence("کارت معتبر نیست", "Card not valid"), "card_struck", "bad"),
    Failure.CARD_IN_USE: Look(Sentence("کارت در دست برنامهٔ دیگر", "Card is in use"), "card_again", "warn"),
    Failure.TOO_LITTLE_ASSURANCE: Look(
        Sentence("سطح اطمینان کافی نیست", "Not enough assurance"), "levels", "bad"
    ),
    Failure.NOT_PERMITTED: Look(Sentence("استعلام مجاز نیست", "Inquiry not permitted"), "barred", "bad"),
    Failure.REGISTRY_REFUSED: Look(Sentence("ثبت احوال نپذیرفت", "Registry refused"), "registry_no", "bad"),
    Failure.REGISTRY_UNREACHABLE: Look(
        Sentence("ثبت احوال در دسترس نیست", "Registry unreachable"), "registry_away", "warn"
    ),
    Failure.REGISTRY_ANSWER_REFUSED: Look(Sentence("پاسخ پذیرفته نشد", "Answer discarded"), "answer_bad", "bad"),
    Failure.VISIT_TIMED_OUT: Look(Sentence("زمان به پایان رسید", "Time ran out"), "clock", "warn"),
    Failure.VISIT_CANCELLED: Look(
        Sentence("مراجعه لغو شد", "Visit cancelled"), "cancelled", "warn",
        Sentence("هرگاه خواستید مراجعهٔ تازه‌ای آغاز کنید.", "Start a new visit whenever you like."),
    ),
    Failure.VISIT_INTERRUPTED: Look(Sentence("مراجعه نیمه‌کاره ماند", "Visit interrupted"), "restart", "warn"),
    Failure.CLOCK_NOT_TRUSTED: Look(BLOCKED, "clock", "warn"),
    Failure.JOURNAL_FULL: Look(BLOCKED, "journal", "warn"),
    Failure.JOURNAL_FAILED: Look(BLOCKED, "journal", "bad"),
    Failure.READER_ABSENT: Look(BLOCKED, "reader_away", "warn"),
    Failure.CARD_SERVICE_DOWN: Look(BLOCKED, "restart", "warn"),
    Failure.TRUST_LIST_MISSING: Look(BLOCKED, "trust_list", "bad"),
}  # fmt: skip

OTHER_FAILURE: Final = Look(Sentence("انجام نشد", "Not done"), "cancelled", "bad")
OTHER_BLOCK: Final = Look(BLOCKED, "cancelled", "warn")

DONE_AND_GONE: Final = Sentence(
    "کار تمام است؛ رونوشت از کارت لازم نیست.", "All is done; no copy of the card is needed."
)
"""The next step of DONE once the card has left."""

TRAIL: Final[tuple[tuple[Step, Sentence], ...]] = (
    (Step.WAITING_FOR_CARD, Sentence("کارت", "Card")),
    (Step.READING, Sentence("خواندن", "Reading")),
    (Step.PROVING, Sentence("اصالت تراشه", "Chip")),
    (Step.ASKING_REGISTRY, Sentence("ثبت احوال", "Registry")),
    (Step.DONE, Sentence("گواهی", "Assertion")),
)
"""The steps that the citizen sees go by (requirement C3)."""

LEVELS: Final[dict[int, Sentence]] = {
    1: Sentence("دادهٔ کارت", "card data"),
    2: Sentence("کارت اصیل", "genuine card"),
    3: Sentence("دارندهٔ کارت", "holder"),
    4: Sentence("حضور احراز‌شده", "verified presence"),
}

MEANING: Final[dict[int, Sentence]] = {
    1: Sentence("دادهٔ کارت امضای درست دارد؛ چیزی دربارهٔ آورندهٔ آن نمی‌گوید.",
                "The card's data is signed; it says nothing about who brought it."),
    2: Sentence("کارت اصیل و معتبر است؛ این سطح دربارهٔ آورندهٔ آن چیزی نمی‌گوید.",
                "The card is genuine and valid; this level says nothing about who brought it."),
    3: Sentence("کارت اصیل است و آورنده رمز آن را می‌داند.", "The card is genuine and its bearer knows its PIN."),
    4: Sentence("کارت اصیل است و دارندهٔ آن حضور دارد.", "The card is genuine and its holder is present."),
}  # fmt: skip
"""What a level proves, so that nobody takes it for more."""

TEXT: Final[dict[str, Sentence]] = {
    "product": Sentence("گواه", "Govah"),
    "tagline": Sentence("پایانهٔ کارت هوشمند ملی", "Smart national card terminal"),
    "terminal": Sentence("پایانه", "Terminal"),
    "today": Sentence("گواهی‌های امروز", "Issued today"),
    "other_language": Sentence("English", "فارسی"),
    "service": Sentence("خدمت", "Service"),
    "act_reference": Sentence("شمارهٔ سند یا پرونده", "Act or file reference"),
    "act_reference_hint": Sentence("۱ تا ۶۴ نویسه", "1 to 64 characters"),
    "level": Sentence("سطح اطمینان", "Level of assurance"),
    "level_wanted": Sentence("سطح خواسته‌شده", "Level asked for"),
    "level_reached": Sentence("سطح به‌دست‌آمده", "Level reached"),
    "level_of_service": Sentence("همان که خدمت لازم دارد", "As the service needs"),
    "start_by_hand": Sentence("آغاز مراجعه", "Start a visit"),
    "start": Sentence("آغاز", "Start"),
    "cancel": Sentence("لغو مراجعه", "Cancel the visit"),
    "next_step": Sentence("گام بعد", "Next step"),
    "tracking_code": Sentence("کد رهگیری", "Tracking code"),
    "qr": Sentence("رمزینهٔ گواهی", "QR code of the assertion"),
    "qr_hint": Sentence("برای راستی‌آزمایی پویش کنید", "Scan to verify"),
    "holder": Sentence("نام روی کارت", "Name on the card"),
    "steps": Sentence("گام‌های مراجعه", "Steps of the visit"),
    "progress": Sentence("پیشرفت خواندن", "Reading progress"),
    "seconds": Sentence("ثانیه", "s"),
    "reasons": Sentence("دلیل‌ها", "Reasons"),
    "code": Sentence("کد", "code"),
    "no_copy": Sentence(
        "گرفتن رونوشت (کپی) از کارت ملی ممنوع است؛ این گواهی جای آن را می‌گیرد.",
        "Copying the national card is forbidden; this assertion takes its place.",
    ),
    "lost_word": Sentence("ارتباط صفحه قطع است", "Page disconnected"),
    "lost": Sentence(
        "این صفحه به برنامهٔ پایانه دسترسی ندارد و خودبه‌خود دوباره می‌کوشد. تا آن هنگام مراجعه‌ای آغاز نکنید.",
        "This page cannot reach the terminal's program and keeps trying. Start no visit until it is back.",
    ),
    "no_script": Sentence(
        "این صفحه به جاوااسکریپت نیاز دارد تا زنده بماند؛ برای دیدن وضعیت تازه صفحه را دوباره باز کنید.",
        "This page needs JavaScript to stay live; reload it to see the current state.",
    ),
    "form_stale": Sentence(
        "فرم کهنه بود و پذیرفته نشد؛ دوباره بفرستید.", "The form was out of date and was not accepted; send it again."
    ),
    "page_unknown": Sentence("چنین صفحه‌ای نیست.", "There is no such page."),
}


def pick(sentence: Sentence, lang: Lang) -> str:
    """The sentence in one language."""
    return sentence.fa if lang == "fa" else sentence.en


def failure_look(failure: Failure, *, blocked: bool) -> Look:
    """How `failure` looks; codes that came later than this page have a plain look of their own."""
    return FAILURES.get(failure, OTHER_BLOCK if blocked else OTHER_FAILURE)

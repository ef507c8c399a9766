"""Every word on the dashboard in Persian and English, and how the rows of a timeline read."""

from __future__ import annotations

from typing import Final, Literal

from wire.failures import SENTENCES, Failure, Sentence
from wire.messages import CommandKind, FactKind, ReaderState

Lang = Literal["fa", "en"]
LANGS: Final[tuple[Lang, ...]] = ("fa", "en")

PRESENCE: Final[dict[str, Sentence]] = {
    "online": Sentence("برخط", "Online"),
    "lost": Sentence("بی‌خبر", "Lost"),
    "left": Sentence("خاموش‌شده", "Shut down"),
    "never": Sentence("هنوز نیامده", "Never seen"),
}
"""In the order in which they are shown."""

PRESENCE_MEANS: Final[dict[str, Sentence]] = {
    "online": Sentence("پیام‌هایش به‌هنگام می‌رسد.", "Its messages arrive in time."),
    "lost": Sentence("بی‌خداحافظی ساکت شده است.", "It fell silent without saying goodbye."),
    "left": Sentence("خود اعلام کرد که خاموش می‌شود.", "It said itself that it shuts down."),
    "never": Sentence("ثبت شده، ولی هنوز وصل نشده است.", "Listed, but has not connected yet."),
}

READER: Final[dict[int, Sentence]] = {
    ReaderState.NO_SERVICE: Sentence("سرویس کارت خاموش", "Card service down"),
    ReaderState.NO_READER: Sentence("کارتخوان نیست", "No reader"),
    ReaderState.EMPTY: Sentence("آماده، بی کارت", "Ready, no card"),
    ReaderState.CARD_PRESENT: Sentence("کارت در کارتخوان", "Card in reader"),
}
READER_TONE: Final[dict[int, str]] = {
    ReaderState.NO_SERVICE: "bad",
    ReaderState.NO_READER: "bad",
    ReaderState.EMPTY: "good",
    ReaderState.CARD_PRESENT: "busy",
}

BLOCKED: Final[dict[int, Sentence]] = {
    Failure.CLOCK_NOT_TRUSTED: Sentence("ساعت نامطمئن", "Clock not trusted"),
    Failure.JOURNAL_FULL: Sentence("دفتر پر", "Journal full"),
    Failure.JOURNAL_FAILED: Sentence("دفتر خراب", "Journal failed"),
    Failure.READER_ABSENT: Sentence("کارتخوان نیست", "No reader"),
    Failure.CARD_SERVICE_DOWN: Sentence("سرویس کارت خاموش", "Card service down"),
    Failure.TRUST_LIST_MISSING: Sentence("بی فهرست اعتماد", "No trust list"),
}

FACT: Final[dict[int, Sentence]] = {
    FactKind.VISIT_ENDED: Sentence("پایان مراجعه", "Visit ended"),
    FactKind.AGENT_STARTED: Sentence("آغاز برنامه", "Agent started"),
}

COMMAND: Final[dict[int, Sentence]] = {CommandKind.REPORT_HEALTH: Sentence("گزارش سلامت", "Report health")}

EVENT: Final[dict[str, Sentence]] = {
    "added": Sentence("در فهرست ثبت شد", "Added to the list"),
    "code_renewed": Sentence("کد ثبت‌نام تازه ساخته شد", "New enrolment code made"),
    "enrolled": Sentence("ثبت‌نام شد و گواهی گرفت", "Enrolled, certificate issued"),
    "online": Sentence("برخط شد", "Came online"),
    "left": Sentence("خاموش شد", "Shut down"),
    "lost": Sentence("بی‌خبر شد", "Lost"),
    "journal_replaced": Sentence("دفتر رویداد تازه", "New journal"),
    "version": Sentence("نسخهٔ برنامه", "Agent version"),
    "profile": Sentence("نمایهٔ کارت", "Card profile"),
    "reader": Sentence("کارتخوان", "Reader"),
    "blocked": Sentence("دلیل‌های توقف", "Blocking reasons"),
    "clock_trusted": Sentence("ساعت", "Clock"),
    "command_done": Sentence("فرمان پایان یافت", "Command finished"),
}

TEXT: Final[dict[str, Sentence]] = {
    "product": Sentence("گواه", "Govah"),
    "tagline": Sentence("ناوگان پایانه‌ها", "Terminal fleet"),
    "other_language": Sentence("English", "فارسی"),
    "logout": Sentence("خروج", "Log out"),
    "terminals": Sentence("پایانه‌ها", "Terminals"),
    "terminal": Sentence("پایانه", "Terminal"),
    "all": Sentence("همه", "All"),
    "search": Sentence("جست‌وجو با آغاز شماره", "Search by start of serial"),
    "search_do": Sentence("بیاب", "Find"),
    "status": Sentence("وضعیت", "Status"),
    "last_seen": Sentence("آخرین پیام", "Last message"),
    "version": Sentence("نسخه", "Version"),
    "profile": Sentence("نمایهٔ کارت", "Card profile"),
    "reader": Sentence("کارتخوان", "Reader"),
    "blocked": Sentence("توقف پذیرش", "Blocked by"),
    "not_blocked": Sentence("هیچ، پذیرش باز است", "Nothing, visits can start"),
    "unknown": Sentence("گزارش نشده", "Not reported"),
    "no_terminals": Sentence("پایانه‌ای با این نشانی یافت نشد.", "No terminal matches."),
    "first_page": Sentence("صفحهٔ نخست", "First page"),
    "next_page": Sentence("صفحهٔ بعد", "Next page"),
    "back": Sentence("همهٔ پایانه‌ها", "All terminals"),
    "health": Sentence("سلامت", "Health"),
    "old_values": Sentence(
        "پایانه برخط نیست؛ این‌ها آخرین گزارش اوست، نه حال کنونی.",
        "The terminal is not online; this is what it last reported, not how it is now.",
    ),
    "clock": Sentence("ساعت", "Clock"),
    "trusted": Sentence("تأییدشده", "Trusted"),
    "not_trusted": Sentence("تأییدنشده", "Not trusted"),
    "uptime": Sentence("روشن از", "Up for"),
    "facts_unsent": Sentence("رویداد نفرستاده", "Facts not sent"),
    "facts_kept": Sentence("رویداد نگه‌داشته", "Facts kept on terminal"),
    "journal_size": Sentence("اندازهٔ دفتر", "Journal size"),
    "memory": Sentence("حافظهٔ برنامه", "Agent memory"),
    "reported": Sentence("زمان گزارش", "Reported"),
    "ask_health": Sentence("گزارش سلامت بخواه", "Ask for health"),
    "commands": Sentence("فرمان‌ها", "Commands"),
    "command_waiting": Sentence("در انتظار پایانه", "Waiting for the terminal"),
    "command_sent": Sentence("فرستاده شد، در انتظار پاسخ", "Sent, waiting for the answer"),
    "command_expired": Sentence("مهلت گذشت", "Expired"),
    "command_done": Sentence("انجام شد", "Done"),
    "certificate": Sentence("گواهی دستگاه", "Device certificate"),
    "no_certificate": Sentence("هنوز ثبت‌نام نکرده است.", "Not enrolled yet."),
    "valid": Sentence("معتبر", "Valid"),
    "expired": Sentence("منقضی", "Expired"),
    "revoked": Sentence("باطل‌شده", "Revoked"),
    "not_yet": Sentence("هنوز آغاز نشده", "Not valid yet"),
    "serial_number": Sentence("شمارهٔ گواهی", "Serial number"),
    "from": Sentence("از", "From"),
    "until": Sentence("تا", "Until"),
    "days_left": Sentence("روز مانده", "days left"),
    "earlier": Sentence("گواهی‌های پیشین", "Earlier certificates"),
    "facts": Sentence("رویدادها", "Facts"),
    "stored": Sentence("نگه‌داشته در سرور", "stored on the server"),
    "journal": Sentence("دفتر", "Journal"),
    "through": Sentence("پیوسته تا", "complete up to"),
    "no_facts": Sentence("هنوز رویدادی نرسیده است.", "No fact has arrived yet."),
    "when": Sentence("زمان", "Time"),
    "what": Sentence("چه", "What"),
    "service": Sentence("خدمت", "Service"),
    "level": Sentence("سطح", "Level"),
    "outcome": Sentence("نتیجه", "Outcome"),
    "assertion_given": Sentence("گواهی صادر شد", "Assertion given"),
    "took": Sentence("مدت", "Took"),
    "seconds": Sentence("ثانیه", "s"),
    "timeline": Sentence("روند", "Timeline"),
    "no_events": Sentence("چیزی ثبت نشده است.", "Nothing recorded."),
    "anomalies": Sentence("ناهنجاری‌ها", "Anomalies"),
    "after_silence": Sentence("پس از سکوتی به درازای", "after a silence of"),
    "mb": Sentence("مگابایت", "MB"),
    "none": Sentence("هیچ", "none"),
    "live_lost": Sentence(
        "به‌روزرسانی زنده قطع است؛ آنچه می‌بینید شاید کهنه باشد.",
        "Live updates are interrupted; what you see may be old.",
    ),
    "code": Sentence("کد", "code"),
    "ago_now": Sentence("هم‌اکنون", "just now"),
    "ago_s": Sentence("{} ثانیه پیش", "{} s ago"),
    "ago_min": Sentence("{} دقیقه پیش", "{} min ago"),
    "ago_h": Sentence("{} ساعت پیش", "{} h ago"),
    "ago_d": Sentence("{} روز پیش", "{} d ago"),
    "for_s": Sentence("{} ثانیه", "{} s"),
    "for_min": Sentence("{} دقیقه", "{} min"),
    "for_h": Sentence("{} ساعت", "{} h"),
    "for_d": Sentence("{} روز", "{} d"),
    "login_needed": Sentence("باید وارد شوید", "Please log in"),
    "login_how": Sentence(
        "روی خود سرور دستور زیر را اجرا و پیوند یک‌بارمصرف آن را باز کنید.",
        "Run this command on the server itself and open the one-time link that it prints.",
    ),
    "not_found": Sentence("یافت نشد", "Not found"),
    "not_found_how": Sentence(
        "این نشانی چیزی را نشان نمی‌دهد. پیوند ورود تنها یک بار کار می‌کند.",
        "There is nothing at this address. A login link works only once.",
    ),
    "refused": Sentence("پذیرفته نشد", "Not accepted"),
    "refused_how": Sentence("صفحه را دوباره باز کنید و باز بیازمایید.", "Reload the page and try again."),
    "logged_out": Sentence("خارج شدید", "You are logged out"),
}


def pick(sentence: Sentence, lang: Lang) -> str:
    """The sentence in one language."""
    return sentence.fa if lang == "fa" else sentence.en


def named(table: dict[int, Sentence] | dict[str, Sentence], key: object, lang: Lang) -> str:
    """The word for `key`; what this version does not know is shown as it came."""
    found = table.get(key)  # type: ignore[call-overload] # a foreign key simply is not there
    return pick(found, lang) if found else str(key)


def failure_sentence(code: int, lang: Lang) -> str:
    """The sentence of a failure code; a code that this version does not know, as a number."""
    try:
        return pick(SENTENCES[Failure(code)], lang)
    except ValueError:
        return f"{pick(TEXT['code'], lang)} {code}"

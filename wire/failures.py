"""Every failure code that crosses a wire or reaches a person, with its sentence in Persian and English.

A sentence says what happened and what to do next. Codes are stable numbers: never reuse one.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple


class Failure(IntEnum):
    NONE = 0
    # a visit ended without an assertion
    CARD_GONE = 10
    CARD_MUTE = 11
    CARD_UNSUPPORTED = 12
    CARD_NOT_GENUINE = 13
    CARD_DATA_NOT_AUTHENTIC = 14
    CARD_EXPIRED = 15
    CARD_READ_ERROR = 16
    CARD_NOT_VALID_ANY_MORE = 17
    CARD_IN_USE = 18
    TOO_LITTLE_ASSURANCE = 20
    NOT_PERMITTED = 21
    REGISTRY_REFUSED = 22
    REGISTRY_UNREACHABLE = 23
    REGISTRY_ANSWER_REFUSED = 24
    VISIT_TIMED_OUT = 25
    VISIT_CANCELLED = 26
    VISIT_INTERRUPTED = 27
    # no visit may start
    CLOCK_NOT_TRUSTED = 40
    JOURNAL_FULL = 41
    JOURNAL_FAILED = 42
    READER_ABSENT = 43
    CARD_SERVICE_DOWN = 44
    TRUST_LIST_MISSING = 45
    # requests from the office software
    REQUEST_REFUSED = 60
    SERVICE_UNKNOWN = 61
    BUSY = 62
    # commands from the fleet
    COMMAND_EXPIRED = 80
    COMMAND_UNKNOWN = 81


class Sentence(NamedTuple):
    fa: str
    en: str


SENTENCES: Final[dict[Failure, Sentence]] = {
    Failure.NONE: Sentence("انجام شد.", "Done."),
    Failure.CARD_GONE: Sentence(
        "کارت پیش از پایان کار برداشته شد. کارت را دوباره بگذارید و تا پایان نگه دارید.",
        "The card was removed before the end. Put it in again and leave it until the screen says so.",
    ),
    Failure.CARD_MUTE: Sentence(
        "کارت پاسخ نمی‌دهد. کارت را وارونه نگذاشته‌اید؟ تراشه باید رو به بالا و جلو باشد.",
        "The card does not answer. Is it the wrong way round? The chip faces up and forward.",
    ),
    Failure.CARD_UNSUPPORTED: Sentence(
        "این پایانه این نوع کارت را نمی‌شناسد. کارت هوشمند ملی را بگذارید.",
        "This terminal does not know this kind of card. Put in a smart national card.",
    ),
    Failure.CARD_NOT_GENUINE: Sentence(
        "اصالت تراشهٔ کارت اثبات نشد. گواهی صادر نمی‌شود؛ به ثبت احوال راهنمایی کنید.",
        "The chip could not prove that it is genuine. No assertion is issued; refer the holder to the civil registry.",
    ),
    Failure.CARD_DATA_NOT_AUTHENTIC: Sentence(
        "امضای داده‌های کارت درست نیست. گواهی صادر نمی‌شود؛ به ثبت احوال راهنمایی کنید.",
        "The card's data does not carry a valid signature. No assertion is issued; refer the holder to the civil registry.",
    ),
    Failure.CARD_EXPIRED: Sentence(
        "اعتبار کارت به پایان رسیده است. شهروند باید کارت تازه بگیرد.",
        "The card has expired. The holder needs a new card.",
    ),
    Failure.CARD_READ_ERROR: Sentence(
        "خواندن کارت کامل نشد. کارت را بردارید و دوباره بگذارید.",
        "The card could not be read to the end. Take it out and put it in again.",
    ),
    Failure.CARD_NOT_VALID_ANY_MORE: Sentence(
        "ثبت احوال این کارت را معتبر نمی‌داند (باطل، مفقود یا جایگزین شده).",
        "The civil registry does not hold this card valid (revoked, lost or replaced).",
    ),
    Failure.CARD_IN_USE: Sentence(
        "برنامهٔ دیگری کارت را در دست دارد یا کارتخوان آماده نیست. کارت را بردارید و دوباره بگذارید.",
        "Another program holds the card, or the reader is not ready. Take the card out and put it in again.",
    ),
    Failure.TOO_LITTLE_ASSURANCE: Sentence(
        "سطح اطمینان لازم برای این خدمت به دست نیامد.",
        "The level of assurance that this service needs was not reached.",
    ),
    Failure.NOT_PERMITTED: Sentence(
        "مرکز ملی تبادل اطلاعات برای این استعلام مصوبه‌ای ندارد.",
        "The national exchange has no decision that permits this inquiry.",
    ),
    Failure.REGISTRY_REFUSED: Sentence(
        "ثبت احوال درخواست را نپذیرفت. کد رهگیری را نگه دارید.",
        "The civil registry refused the request. Keep the tracking code.",
    ),
    Failure.REGISTRY_UNREACHABLE: Sentence(
        "ارتباط با ثبت احوال برقرار نیست. رونوشت نگیرید (بخشنامهٔ منع اخذ کپی)؛ اندکی بعد دوباره بیازمایید.",
        "The civil registry cannot be reached. Do not take a copy instead (the circular forbids it); try again shortly.",
    ),
    Failure.REGISTRY_ANSWER_REFUSED: Sentence(
        "پاسخ دریافتی امضای درست ثبت احوال را ندارد و کنار گذاشته شد.",
        "The answer did not carry the registry's valid signature for this request and was discarded.",
    ),
    Failure.VISIT_TIMED_OUT: Sentence(
        "در زمان مقرر کارتی گذاشته نشد. مراجعه را دوباره آغاز کنید.",
        "No card was put in in time. Start the visit again.",
    ),
    Failure.VISIT_CANCELLED: Sentence("مراجعه لغو شد.", "The visit was cancelled."),
    Failure.VISIT_INTERRUPTED: Sentence(
        "پایانه در میانهٔ مراجعه از کار افتاد. مراجعه را دوباره آغاز کنید.",
        "The terminal stopped in the middle of the visit. Start the visit again.",
    ),
    Failure.CLOCK_NOT_TRUSTED: Sentence(
        "ساعت پایانه هنوز تأیید نشده است؛ اتصال شبکه را بررسی کنید.",
        "The terminal's clock is not confirmed yet; check the network connection.",
    ),
    Failure.JOURNAL_FULL: Sentence(
        "دفتر رویدادهای پایانه پر است؛ ارتباط با سرور ناوگان باید برقرار شود.",
        "The terminal's journal is full; the connection to the fleet server must come back first.",
    ),
    Failure.JOURNAL_FAILED: Sentence(
        "دفتر رویدادهای پایانه نوشته نمی‌شود؛ با پشتیبانی تماس بگیرید.",
        "The terminal's journal cannot be written; call support.",
    ),
    Failure.READER_ABSENT: Sentence(
        "کارتخوان وصل نیست؛ کابل آن را بررسی کنید.", "No card reader is connected; check its cable."
    ),
    Failure.CARD_SERVICE_DOWN: Sentence(
        "سرویس کارتخوان از کار افتاده است و خودبه‌خود بازمی‌گردد؛ چند ثانیه شکیبا باشید.",
        "The card service is down and comes back by itself; wait a few seconds.",
    ),
    Failure.TRUST_LIST_MISSING: Sentence(
        "فهرست اعتماد صادرکنندگان کارت در پایانه نیست؛ با پشتیبانی تماس بگیرید.",
        "The terminal has no trust list of card issuers; call support.",
    ),
    Failure.REQUEST_REFUSED: Sentence(
        "درخواست نرم‌افزار دفتر پذیرفته نشد؛ فیلدها را بررسی کنید.",
        "The office software's request was refused; check its fields.",
    ),
    Failure.SERVICE_UNKNOWN: Sentence(
        "این خدمت برای این پایانه تعریف نشده است.", "This service is not defined for this terminal."
    ),
    Failure.BUSY: Sentence(
        "مراجعهٔ دیگری در جریان است.", "Another visit is in progress."
    ),
    Failure.COMMAND_EXPIRED: Sentence("مهلت فرمان گذشته است.", "The command's deadline has passed."),
    Failure.COMMAND_UNKNOWN: Sentence("این فرمان شناخته نیست.", "This command is not known."),
}  # fmt: skip

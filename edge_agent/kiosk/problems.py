"""Refusals as problem documents (RFC 9457): a code for programs, a sentence in Persian and English for people.

Codes from `wire.failures` keep their number; what only HTTP can refuse has a name of its own and no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from fastapi.responses import JSONResponse

from wire.failures import SENTENCES, Failure, Sentence

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Enum):
    """What is wrong with the request as HTTP, before it concerns a visit: status and sentence."""

    HOST_REFUSED = (421, Sentence("این نشانی از آنِ این پایانه نیست.", "This host name is not this terminal's."))
    TOO_LARGE = (413, Sentence("درخواست بزرگ‌تر از اندازهٔ مجاز است.", "The request is larger than allowed."))
    TOO_SLOW = (408, Sentence("درخواست در زمان مقرر نرسید.", "The request did not arrive in time."))
    NOT_AUTHORISED = (
        401,
        Sentence("توکن دفتر درست نیست یا فرستاده نشده است.", "The office token is missing or not right."),
    )
    ORIGIN_REFUSED = (
        403,
        Sentence("این درخواست از صفحهٔ خود پایانه نیامده است.", "This request did not come from the terminal's page."),
    )
    NOT_FOUND = (404, Sentence("یافت نشد.", "Not found."))
    METHOD_REFUSED = (405, Sentence("این روش اینجا پذیرفته نیست.", "This method is not accepted here."))
    NOT_READABLE = (400, Sentence("درخواست خوانا نیست.", "The request cannot be read."))
    TOO_MANY = (429, Sentence("درخواست‌های هم‌زمان بیش از اندازه است.", "Too many requests at the same time."))

    def response(self, headers: dict[str, str] | None = None) -> JSONResponse:
        """The refusal."""
        status, sentence = self.value
        return _document(status, self.name.lower(), None, sentence, headers=headers)


def refused(failure: Failure, fields: Sequence[dict[str, str]] = ()) -> JSONResponse:
    """The refusal of a visit. `fields` names what is wrong where; it never repeats a value."""
    return _document(status_of(failure), failure.name.lower(), int(failure), SENTENCES[failure], fields=fields)


def status_of(failure: Failure) -> int:
    """The HTTP status that a refused visit is told with."""
    if failure is Failure.BUSY:
        return 409
    if 40 <= failure < 60:
        return 503
    return 422


def _document(
    status: int,
    name: str,
    code: int | None,
    sentence: Sentence,
    *,
    fields: Sequence[dict[str, str]] = (),
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    content: dict[str, Any] = {
        "type": f"urn:govah:problem:{name}",
        "title": sentence.en,
        "status": status,
        "code": code,
        "name": name,
        "fa": sentence.fa,
        "en": sentence.en,
    }
    if fields:
        content["fields"] = list(fields)
    return JSONResponse(content, status, media_type=MEDIA_TYPE, headers=headers)

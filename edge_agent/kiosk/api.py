"""The office API, `/api/v1/`: the relying party's own software asks for an assertion and gets it.

Every office has one bearer token and sees only its own visits. Requests are limited to the fields of the technical
sheet; anything beyond is refused (requirement D10).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from edge_agent.kiosk.config import KioskConfig, Office
from edge_agent.kiosk.desk import BUSY_STEPS, Desk, VisitRefusedError, VisitRequest, VisitState, VisitView
from edge_agent.kiosk.problems import Problem
from wire.failures import SENTENCES, Failure

MAX_WAIT_S: Final = 60
MAX_WAITING: Final = 32
"""Long polls at the same time, all offices together."""


class ApiError(Exception):
    """A request is refused; the handler in `app` sends `response`."""

    def __init__(self, response: JSONResponse) -> None:
        super().__init__(str(response.status_code))
        self.response = response


def printable(text: str) -> str:
    """`text` if it can be shown on one line as it is.

    Raises:
        ValueError: control, format or bidirectional characters, or blanks at an end.
    """
    if not text.isprintable() or text != text.strip():
        raise ValueError("printable characters only, no blanks at the ends")
    return text


ActReference = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(printable)]
ServiceId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]
Level = Annotated[int, Field(ge=1, le=4)]
IdempotencyKey = Annotated[str | None, Header(min_length=1, max_length=128, pattern=r"^[!-~]+$")]
VisitId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class VisitIn(BaseModel):
    """What an office asks for."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"service": "notary.deed", "act_reference": "1404/8812", "min_loa": 2}]},
    )
    service: ServiceId
    act_reference: ActReference
    min_loa: Level | None = None
    """Left out: what the service needs. Less than that is refused."""


class FailureOut(BaseModel):
    """Why, as a stable code and as sentences for people."""

    code: int
    name: str
    fa: str
    en: str


class TransactionOut(BaseModel):
    """The inputs of the assertion's `txh`: SHA-256 of the deterministic CBOR array
    ["NCP-TX/1", service, audience, act_reference, salt, at_ms]. Keep them with the assertion."""

    service: str
    audience: str
    act_reference: str
    salt: str = Field(description="base64url without padding, 16 bytes")
    at_ms: int


class VisitOut(BaseModel):
    """A visit of this office."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "b3JhbmdlLXRlYS1jdXA",
                    "state": "done",
                    "failure": None,
                    "loa": 2,
                    "tracking_code": "7KQ2-M4XW-9TRC-H3VD",
                    "assertion": "0oREoQEmoFgq…",
                    "transaction": {
                        "service": "notary.deed",
                        "audience": "10380284790/0417",
                        "act_reference": "1404/8812",
                        "salt": "q1Zy0m8vE2wUu1sQeYx4Xg",
                        "at_ms": 1763800000000,
                    },
                }
            ]
        }
    )
    id: str
    state: VisitState
    failure: FailureOut | None
    loa: int | None
    tracking_code: str | None
    assertion: str | None = Field(description="base64url without padding: the COSE_Sign1 token")
    transaction: TransactionOut | None


class ServiceOut(BaseModel):
    id: str
    title_fa: str
    title_en: str
    min_loa: int


class StatusOut(BaseModel):
    """Whether a visit can start now."""

    terminal: str
    ready: bool
    busy: bool
    reader: str
    blocked: list[FailureOut]
    services: list[ServiceOut]


class ProblemOut(BaseModel):
    """RFC 9457, with the failure's number (null for what only HTTP refuses) and sentence in both languages."""

    type: str
    title: str
    status: int
    code: int | None
    name: str
    fa: str
    en: str
    fields: list[dict[str, str]] = []


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"model": ProblemOut, "content": {"application/problem+json": {}}, "description": "Refused"}
        for status in statuses
    }


def router(desk: Desk, config: KioskConfig, closing: asyncio.Event) -> APIRouter:
    """The routes, with the desk they pass wishes to. `closing`, once set, answers every long poll at once."""
    routes = APIRouter(prefix="/api/v1", tags=["office"], responses=_problems(401, 408, 413, 421))
    bearer = HTTPBearer(auto_error=False, description="The office's token")
    waiting = asyncio.Semaphore(MAX_WAITING)

    async def caller(credentials: HTTPAuthorizationCredentials | None = Depends(bearer)) -> Office:
        office = office_of(config, credentials.credentials if credentials else "")
        if office is None:
            raise ApiError(Problem.NOT_AUTHORISED.response({"WWW-Authenticate": 'Bearer realm="govah"'}))
        return office

    @routes.post("/visits", status_code=201, responses=_problems(400, 409, 422, 503))
    async def start(
        asked: VisitIn, idempotency_key: IdempotencyKey = None, office: Office = Depends(caller)
    ) -> VisitOut:
        """Start a visit: the terminal asks the citizen for the card. One visit at a time."""
        view = await request_visit(
            desk, office, service_id=asked.service, act_reference=asked.act_reference, min_loa=asked.min_loa,
            idempotency_key=idempotency_key,
        )  # fmt: skip
        return visit_out(view)

    @routes.get("/visits/{visit}", responses=_problems(404, 422, 429))
    async def look(
        visit: VisitId,
        wait_s: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0,
        office: Office = Depends(caller),
    ) -> VisitOut:
        """Where the visit stands; with `wait_s`, answers as soon as it is over."""
        if waiting.locked():
            raise ApiError(Problem.TOO_MANY.response({"Retry-After": "1"}))
        async with waiting:
            return _found(await _view(desk, visit, office, wait_s, closing))

    @routes.delete("/visits/{visit}", responses=_problems(404, 422))
    async def cancel(visit: VisitId, office: Office = Depends(caller)) -> VisitOut:
        """End a visit that is under way."""
        return _found(await desk.cancel(visit, audience=office.audience))

    @routes.get("/status")
    async def status(office: Office = Depends(caller)) -> StatusOut:
        """Whether a visit can start now, and why not."""
        screen = desk.screen()
        return StatusOut(
            terminal=config.terminal,
            ready=not screen.reasons and screen.step not in BUSY_STEPS,
            busy=screen.step in BUSY_STEPS,
            reader=screen.reader.name.lower(),
            blocked=[failure_out(reason) for reason in screen.reasons],
            services=[
                ServiceOut(id=one.id, title_fa=one.title_fa, title_en=one.title_en, min_loa=one.min_loa)
                for one in office.services
            ],
        )

    return routes


def office_of(config: KioskConfig, token: str) -> Office | None:
    """Whose token it is. Takes the same time for every wrong one: all offices are compared, without an early end."""
    digest = hashlib.sha256(token.encode()).digest()
    found = None
    for office in config.offices:
        if hmac.compare_digest(office.token_sha256, digest):
            found = office
    return found


async def request_visit(
    desk: Desk,
    office: Office,
    *,
    service_id: str,
    act_reference: str,
    min_loa: int | None,
    idempotency_key: str | None = None,
) -> VisitView:
    """Ask the desk for a visit, for the office software and for the officer's form alike.

    Raises:
        VisitRefusedError: the office does not offer the service, the level is below the service's, or the desk's own.
    """
    service = office.service(service_id)
    if service is None:
        raise VisitRefusedError(Failure.SERVICE_UNKNOWN)
    if min_loa is not None and min_loa < service.min_loa:
        raise VisitRefusedError(Failure.REQUEST_REFUSED)
    return await desk.request(
        VisitRequest(
            audience=office.audience,
            office=office.name,
            office_class=office.office_class,
            service=service.id,
            legal_basis=service.legal_basis,
            act_reference=act_reference,
            min_loa=min_loa or service.min_loa,
            idempotency_key=idempotency_key,
        )
    )


def visit_out(view: VisitView) -> VisitOut:
    """The visit as JSON."""
    transaction = view.transaction
    return VisitOut(
        id=view.id,
        state=view.state,
        failure=None if view.failure is Failure.NONE else failure_out(view.failure),
        loa=view.loa,
        tracking_code=view.tracking_code,
        assertion=base64url(view.assertion) if view.assertion is not None else None,
        transaction=TransactionOut(
            service=transaction.service,
            audience=transaction.audience,
            act_reference=transaction.act_reference,
            salt=base64url(transaction.salt),
            at_ms=transaction.at_ms,
        )
        if transaction is not None
        else None,
    )


def failure_out(failure: Failure) -> FailureOut:
    """The failure as JSON."""
    sentence = SENTENCES[failure]
    return FailureOut(code=int(failure), name=failure.name.lower(), fa=sentence.fa, en=sentence.en)


def base64url(data: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


async def _view(desk: Desk, visit: str, office: Office, wait_s: float, closing: asyncio.Event) -> VisitView | None:
    """`Desk.view`, cut short when the process stops."""
    looking = asyncio.ensure_future(desk.view(visit, audience=office.audience, wait_s=wait_s))
    closed = asyncio.ensure_future(closing.wait())
    try:
        await asyncio.wait({looking, closed}, return_when=asyncio.FIRST_COMPLETED)
        if looking.done():
            return looking.result()
        return await desk.view(visit, audience=office.audience, wait_s=0)
    finally:
        closed.cancel()
        looking.cancel()


def _found(view: VisitView | None) -> VisitOut:
    if view is None:
        raise ApiError(Problem.NOT_FOUND.response())
    return visit_out(view)

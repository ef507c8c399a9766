"""What the simulator's operator can do: change the state of a card, and make the registry misbehave for a test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI, Request, Response

from tools.simulators.party.body import BodyTooLongError, read_body
from tools.simulators.registry.store import Store
from wire import cose
from wire.inquiry import CardStatus

_MAX_ORDER_BYTES = 1024
_DOCUMENT_NUMBER_MAX = 32
_GARBAGE = bytes(range(97))


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the registry misbehaves until told otherwise. Stored answers stay true; only what leaves is spoilt."""

    delay_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 0
    drop_answers: bool = False
    """The request is handled and its answer kept, but nothing useful comes back."""
    fail_next: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    """So many requests are turned away unread."""
    wrong_key: bool = False
    garbage: bool = False


class _CardOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: str


Order = TypeVar("Order", Faults, _CardOrder)


@dataclass(slots=True)
class Misbehaviour:
    """The faults in force, and what each of them does to one request."""

    faults: Faults = field(default_factory=Faults)

    async def before(self) -> bool:
        """Wait as told; True if the request is to be turned away unread."""
        await asyncio.sleep(self.faults.delay_ms / 1000)
        if self.faults.fail_next == 0:
            return False
        self.faults = msgspec.structs.replace(self.faults, fail_next=self.faults.fail_next - 1)
        return True

    def after(self, answer: bytes) -> bytes | None:
        """What leaves instead of `answer`; None for nothing."""
        if self.faults.drop_answers:
            return None
        if self.faults.garbage:
            return _GARBAGE
        if self.faults.wrong_key:
            envelope = cose.parse(answer)
            return cose.sign(envelope.payload, ec.generate_private_key(ec.SECP256R1()), envelope.type)
        return answer


def operator(store: Store, misbehaviour: Misbehaviour) -> FastAPI:
    """The operator's listener; it belongs on loopback."""
    app = FastAPI(title="Registry simulator: operator", openapi_url=None)

    @app.post("/sim/cards/{document_number}")
    async def card(document_number: str, request: Request) -> Response:
        order = await _order(request, _CardOrder)
        if order is None or len(document_number) > _DOCUMENT_NUMBER_MAX:
            return Response(status_code=400)
        try:
            status = CardStatus[order.status.upper()]
        except KeyError:
            return Response(status_code=400)
        store.set_card_status(document_number, status)
        return Response(status_code=204)

    @app.post("/sim/faults")
    async def faults(request: Request) -> Response:
        order = await _order(request, Faults)
        if order is None:
            return Response(status_code=400)
        misbehaviour.faults = order
        return Response(status_code=204)

    @app.get("/sim/counts")
    async def counts() -> dict[str, int]:
        return store.counts()

    return app


async def _order(request: Request, kind: type[Order]) -> Order | None:
    """The operator's JSON as `kind`, or None."""
    try:
        return msgspec.json.decode(await read_body(request, max_bytes=_MAX_ORDER_BYTES), type=kind)
    except (BodyTooLongError, msgspec.MsgspecError, UnicodeDecodeError):
        return None

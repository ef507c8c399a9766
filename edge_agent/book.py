"""The book of visits: what the journal keeps of a visit's beginning and end, as CBOR, and how the office sees it.

No name, no number and no card data is ever written here: the holder is a pairwise pseudonym inside the assertion.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from edge_agent.journal import OpenedVisit
from edge_agent.kiosk.desk import Transaction, VisitRequest, VisitState, VisitView
from edge_agent.station import Asked, Asserted
from wire import cbor
from wire.failures import Failure

REQUEST_MAX_BYTES: Final = 4096
RESULT_MAX_BYTES: Final = 16 * 1024


def asked(visit: str, request: VisitRequest) -> Asked:
    """The visit's own view of what was requested."""
    return Asked(
        visit=visit,
        audience=request.audience,
        office_class=request.office_class,
        service=request.service,
        legal_basis=request.legal_basis,
        act_reference=request.act_reference,
        min_loa=request.min_loa,
    )


def encode_request(request: VisitRequest) -> bytes:
    """What `decode_request` reads; equal bytes mean an equal request."""
    return cbor.encode(dataclasses.asdict(request))


def decode_request(opened: OpenedVisit) -> Asked:
    """What was asked when the visit began."""
    stored = cbor.decode(opened.request, max_bytes=REQUEST_MAX_BYTES)
    return asked(opened.visit, msgspec.convert(stored, VisitRequest))


def encode_result(failure: Failure, asserted: Asserted | None, tracking_code: str | None) -> bytes:
    """What `decode_result` reads. The salt is kept for the office, which is the relying party."""
    result: dict[str, object] = {"failure": int(failure), "tracking_code": tracking_code}
    if asserted is not None:
        result |= {
            "loa": asserted.loa,
            "assertion": asserted.token,
            "transaction": dataclasses.asdict(asserted.transaction),
        }
    return cbor.encode(result)


def decode_result(opened: OpenedVisit) -> VisitView:
    """An ended visit as its office may see it."""
    result = cbor.decode(opened.result or b"", max_bytes=RESULT_MAX_BYTES)
    failure = Failure(result["failure"])
    return VisitView(
        opened.visit,
        VisitState.FAILED if failure else VisitState.DONE,
        failure,
        result.get("loa"),
        result["tracking_code"],
        result.get("assertion"),
        Transaction(**result["transaction"]) if "transaction" in result else None,
    )

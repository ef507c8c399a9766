"""Enrolment over Secure Transport (RFC 7030, clarified by RFC 8951): the HTTP half of `enrolment.py`.

Its own TLS listener, because uvicorn does not show a client certificate to the application and because terminals must
reach it before they have one. Answers suit both clients that Debian has: base64 on one line for HTTP/1.1 (strongSwan's
`pki --est` breaks on wrapped text), wrapped for HTTP/1.0 (libest breaks on one line).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from fleet_server import ca, enrolment, ids, installation
from fleet_server.config import Config
from fleet_server.dashboard.guard import BODY_WITHIN_S, read_body
from fleet_server.errors import CredentialRefusedError, CsrRefusedError, RequestRefusedError, TooManyAttemptsError

_log = structlog.get_logger()
_MAX_BODY_BYTES: Final = 16 * 1024
_MAX_CREDENTIAL_BYTES: Final = 256
_WELL_KNOWN: Final = "/.well-known/est"
_LINE: Final = 64


class _Enroller:
    """What one process of the listener holds: the CA, the limits, and where chance and time come from."""

    def __init__(self, config: Config, engine: sa.Engine) -> None:
        self.authority = installation.authority(config.layout)
        self._engine = engine
        self._days = config.est.certificate_days
        self._crl_url = installation.crl_url(config)
        self._limits = enrolment.AttemptLimits(
            per_serial=config.est.attempts_per_serial,
            window_s=config.est.attempts_window_s,
            per_s=config.est.attempts_per_s,
        )

    async def enrol(self, request: Request) -> x509.Certificate:
        """The certificate that the request asks for.

        Raises:
            RequestRefusedError: by its class, why not.
        """
        serial, code = _credentials(request.headers.get("authorization", ""))
        csr = _from_base64(await _body(request))
        self._limits.admit(time.monotonic())
        issuing = enrolment.Issuing(
            self.authority, self._crl_url, self._days, datetime.now(UTC), os.urandom(ca.SERIAL_BYTES)
        )
        try:
            return await run_in_threadpool(
                enrolment.enrol, self._engine, serial, code, csr, issuing, new_id=_id_maker(issuing.now)
            )
        except CredentialRefusedError:
            self._limits.refused(serial, time.monotonic())
            raise


def create_est_app(config: Config, engine: sa.Engine) -> FastAPI:
    """The listener's application. `engine` must be on the migrated fleet database."""
    enroller = _Enroller(config, engine)
    app = FastAPI(title="Govah EST", openapi_url=None, docs_url=None, redoc_url=None)

    @app.get(f"{_WELL_KNOWN}/cacerts")
    async def cacerts(request: Request) -> Response:
        return _certs_only(request, enroller.authority.certificate)

    @app.get(f"{_WELL_KNOWN}/csrattrs")
    async def csrattrs() -> Response:
        return Response(status_code=204)

    @app.post(f"{_WELL_KNOWN}/simpleenroll")
    async def simpleenroll(request: Request) -> Response:
        return _certs_only(request, await enroller.enrol(request))

    @app.post(f"{_WELL_KNOWN}/simplereenroll")
    async def simplereenroll() -> Response:
        return Response("Renewal is not offered yet. Ask for a new code: govah fleet add SERIAL\n", 501)

    @app.get("/crl")
    async def crl() -> Response:
        pem = await run_in_threadpool(config.layout.crl.read_bytes)
        der = x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
        return Response(der, media_type="application/pkix-crl")

    @app.exception_handler(RequestRefusedError)
    async def refused(_request: Request, exc: RequestRefusedError) -> Response:
        # neither serial nor code is logged: a typing error may have put one into the other's place
        _log.warning("enrolment_refused", reason=exc.reason)
        return _refusal(exc)

    return app


def _refusal(exc: RequestRefusedError) -> Response:
    match exc:
        case CredentialRefusedError():
            return Response(f"{exc.reason}\n", 401, {"WWW-Authenticate": 'Basic realm="govah-est", charset="UTF-8"'})
        case TooManyAttemptsError():
            return Response(f"{exc.reason}\n", 429, {"Retry-After": str(exc.retry_after_s)})
        case _:
            return Response(f"{exc.reason}\n", 400)


def _credentials(header: str) -> tuple[str, str]:
    """Serial and code of HTTP Basic (RFC 7617)."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic" or len(value) > _MAX_CREDENTIAL_BYTES:
        raise CredentialRefusedError
    try:
        serial, colon, code = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as exc:
        raise CredentialRefusedError from exc
    if not colon or not serial or not code:
        raise CredentialRefusedError
    return serial, code


async def _body(request: Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_WITHIN_S):
            body = await read_body(request.receive, _MAX_BODY_BYTES)
    except TimeoutError as exc:
        raise CsrRefusedError("the body did not come in time") from exc
    if body is None:
        raise CsrRefusedError(f"body longer than {_MAX_BODY_BYTES} bytes")
    return body


def _from_base64(body: bytes) -> bytes:
    """DER from base64, wrapped or not (RFC 8951 section 3.1)."""
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as exc:
        raise CsrRefusedError("the body is not base64") from exc


def _certs_only(request: Request, certificate: x509.Certificate) -> Response:
    """A degenerate SignedData with one certificate (RFC 7030 section 4.1.3)."""
    text = base64.b64encode(pkcs7.serialize_certificates([certificate], Encoding.DER))
    if request.scope.get("http_version") == "1.0":
        text = b"".join(text[i : i + _LINE] + b"\n" for i in range(0, len(text), _LINE))
    return Response(
        text,
        headers={"Content-Transfer-Encoding": "base64"},
        media_type="application/pkcs7-mime; smime-type=certs-only",
    )


def _id_maker(now: datetime) -> Callable[[], bytes]:
    return lambda: ids.uuid7(int(now.timestamp() * 1000), 0, os.urandom(ids.ENTROPY_BYTES))

"""The exchange's door to the registry: HTTPS with the exchange's own client certificate, bytes there and bytes back."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import httpx

from tools.simulators.nix.exchange import RegistryUnreachableError
from tools.simulators.party.body import BodyTooLongError, read_limited
from wire.inquiry import MAX_ANSWER_BYTES, MEDIA_TYPE

INQUIRIES: Final = "/registry/v1/inquiries"
TIME: Final = "/registry/v1/time"


def context(authority: Path, client: Path) -> ssl.SSLContext:
    """TLS that trusts `authority` alone and shows `client` (PEM with key and certificate).

    Raises:
        OSError: a file is missing or is not what it should be (`ssl.SSLError` included).
    """
    made = ssl.create_default_context(cafile=str(authority))
    made.load_cert_chain(client)
    return made


class RegistryLink:
    """`http` knows the registry's address (`base_url`), trusts its authority and shows the exchange's certificate."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def inquire(self, envelope: bytes) -> bytes:
        """Post an envelope as it is; the answer as it is.

        Raises:
            RegistryUnreachableError: not reached, no answer in time, or not an answer.
        """
        return await self._post(INQUIRIES, envelope)

    async def time(self, request: bytes) -> bytes:
        """As `inquire`, for the registry's signed time."""
        return await self._post(TIME, request)

    async def _post(self, path: str, body: bytes) -> bytes:
        headers = {"content-type": MEDIA_TYPE, "accept-encoding": "identity"}
        try:
            async with self._http.stream("POST", path, content=body, headers=headers) as response:
                if response.status_code != httpx.codes.OK:
                    raise RegistryUnreachableError("not an answer", handed_on=True)
                return await read_limited(response.aiter_raw(), max_bytes=MAX_ANSWER_BYTES)
        except BodyTooLongError as exc:
            raise RegistryUnreachableError("answer too long", handed_on=True) from exc
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as exc:
            raise RegistryUnreachableError(type(exc).__name__, handed_on=False) from exc
        except httpx.HTTPError as exc:
            raise RegistryUnreachableError(type(exc).__name__, handed_on=True) from exc

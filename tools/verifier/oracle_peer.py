"""Runs in the oracle's environment, never in ours: answers each line of JSON on standard input with one.

``{"do": "check", "token": hex, "key": pem, "at": seconds | null}`` -> ``{"ok": bool, "why": text, "claims": hex}``;
with `at`, the library's clock stands there, without it times are not judged.
``{"do": "sign", "payload": hex, "header": [[label, value], …], "key": pem}`` -> ``{"token": hex}``; bytes in the
header are given as ``{"hex": …}``.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

import cbor2
import cwt  # type: ignore[import-not-found]  # not of our environment: oracle.txt has it
import cwt.cwt  # type: ignore[import-not-found]  # the same


class _StoppedClock(datetime.datetime):
    """`datetime` as the library sees it."""

    seconds = 0

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> _StoppedClock:
        return cls.fromtimestamp(cls.seconds, tz)


def _check(question: dict[str, Any]) -> dict[str, Any]:
    at = question["at"]
    _StoppedClock.seconds = at or 0
    key = cwt.COSEKey.from_pem(question["key"], alg="ES256", kid=bytes.fromhex(question["kid"]))
    try:
        claims = cwt.CWT.new(leeway=30).decode(bytes.fromhex(question["token"]), key, no_verify=at is None)
        if not isinstance(claims, dict):
            return {"ok": False, "why": "claims are not a map"}
        encoded = cbor2.dumps(claims, canonical=True).hex()
    except Exception as exc:  # noqa: BLE001  # whatever the library raises is its way of refusing
        return {"ok": False, "why": f"{type(exc).__name__}: {exc}"[:200]}
    return {"ok": True, "why": "", "claims": encoded}


def _sign(question: dict[str, Any]) -> dict[str, Any]:
    header = {
        label: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value for label, value in question["header"]
    }
    key = cwt.COSEKey.from_pem(question["key"], alg="ES256", kid=header[4])
    token = cwt.COSE.new().encode_and_sign(bytes.fromhex(question["payload"]), key, protected=header)
    return {"token": token.hex()}


def main() -> None:
    """Answer until the questions end."""
    cwt.cwt.datetime = _StoppedClock
    verbs = {"check": _check, "sign": _sign}
    for line in sys.stdin:
        question = json.loads(line)
        print(json.dumps(verbs[question["do"]](question)), flush=True)


if __name__ == "__main__":
    main()

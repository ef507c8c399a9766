"""The mutation corpus: named tokens, each with what a verifier must say of it. `--write` makes the file anew.

Everything is derived from two fixed keys with deterministic signatures (RFC 6979), so the file is the same on every
machine and a test can hold it against this script. The keys are published here and good for nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from wire import assertion, cbor, cose, loa, tracking_code
from wire.assertion import Claims, Outcome
from wire.fields import to_map

FILE: Final = Path(__file__).parent.parent / "tests" / "corpus" / "assertions.json"
KEY: Final = ec.derive_private_key(0x676F766168, ec.SECP256R1())
OTHER_KEY: Final = ec.derive_private_key(0x676F766169, ec.SECP256R1())
AUDIENCE: Final = "10380284790/0417"
AT: Final = 1_800_000_000
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_KID = cose.key_id(KEY.public_key())
_GENUINE = loa.Evidence.PASSIVE_AUTH | loa.Evidence.CONTACT | loa.Evidence.STATUS_FRESH | loa.Evidence.CARD_SIGNED
HEADER: Final[dict[Any, Any]] = {1: cose.ES256, 4: _KID, 16: assertion.TYPE}
CLAIMS: Final = Claims(
    iss="nocr.registry",
    aud=AUDIENCE,
    exp=AT + assertion.USE_WITHIN_S,
    nbf=AT,
    iat=AT,
    cti=bytes(range(16)),
    nonce=bytes(range(32)),
    loa=2,
    evb=int(_GENUINE),
    txh=b"\x22" * 32,
    trk=tracking_code.make(bytes(range(1, 17))),
    use=1,
    sub=b"\x33" * 16,
    crf=b"\x44" * 16,
    pol=loa.SPINE_POLICY,
    ret=AT + 315_360_000,
    svc="10031094100",
    att=b"\x55" * 32,
    trm=b"\x66" * 32,
)
MAP: Final = to_map(CLAIMS)
LABELS: Final = {name: label for label, name in Claims.KEYS.items()}
A, U, V, C = Outcome.ALTERED, Outcome.UNKNOWN_ISSUER, Outcome.UNSUPPORTED_VERSION, Outcome.CANNOT_CHECK
NOW, PAST, OTHER = Outcome.GENUINE_NOW, Outcome.GENUINE_PAST, Outcome.OTHER_AUDIENCE


@dataclass(frozen=True, slots=True)
class Case:
    """`token` judged for `audience` at `at` (Unix seconds) must come out as `expected`."""

    name: str
    token: bytes
    expected: Outcome
    audience: str | None = AUDIENCE
    at: int = AT


def signature(protected: bytes, payload: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> tuple[int, int]:
    """(r, s) with low s, the same in every run."""
    message = bytes(cbor2.dumps(["Signature1", protected, b"", payload]))
    r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r, min(s, _ORDER - s)


def token(
    payload: Any = None,
    *,
    header: Any = None,
    key: ec.EllipticCurvePrivateKey = KEY,
    unprotected: Any = None,
    raw_payload: bytes | None = None,
    raw_header: bytes | None = None,
    tag: bytes = b"\xd2",
) -> bytes:
    """A token with a right signature over whatever it is given; what is raw is taken as it is."""
    protected = bytes(cbor2.dumps(HEADER if header is None else header)) if raw_header is None else raw_header
    body = cbor.encode(MAP if payload is None else payload) if raw_payload is None else raw_payload
    signed = cose.raw_signature(*signature(protected, body, key))
    return tag + bytes(cbor2.dumps([protected, {} if unprotected is None else unprotected, body, signed]))


GOOD: Final = token()
_PARTS = cose.parse(GOOD)


def _assembled(*parts: Any) -> bytes:
    return b"\xd2" + bytes(cbor2.dumps(list(parts)))


def _bits() -> Iterator[Case]:
    for position in range(0, len(GOOD), 6):
        bit = position % 8
        changed = bytearray(GOOD)
        changed[position] ^= 1 << bit
        kid_at = GOOD.index(_KID)
        expected = U if kid_at <= position < kid_at + 16 else A
        yield Case(f"bit {bit} of byte {position} flipped", bytes(changed), expected)


def _lengths() -> Iterator[Case]:
    yield Case("nothing", b"", C)
    for length in (1, 2, 3, 4, 5, 6, 10, 47, 48, 49, 50, 51, *range(60, len(GOOD), 40), len(GOOD) - 1):
        yield Case(f"cut to {length} bytes", GOOD[:length], A)
    for name, more in {"zero": b"\x00", "break": b"\xff", "itself": GOOD, "newline": b"\n", "tag": b"\xd2"}.items():
        yield Case(f"{name} appended", GOOD + more, A)
        yield Case(f"{name} in front", more + GOOD, A)
    yield Case("as long as allowed, all zero", bytes(assertion.MAX_BYTES), A)
    yield Case("longer than allowed", GOOD + bytes(assertion.MAX_BYTES), A)
    yield Case("longer than allowed, rightly signed", token({**MAP, -70099: bytes(assertion.MAX_BYTES)}), A)


def _parts() -> Iterator[Case]:
    protected, payload, signed = _PARTS.protected, _PARTS.payload, _PARTS.signature
    mixed: dict[str, tuple[Any, ...]] = {
        "header and payload swapped": (payload, {}, protected, signed),
        "payload and signature swapped": (protected, {}, signed, payload),
        "header and signature swapped": (signed, {}, payload, protected),
        "unprotected header missing": (protected, payload, signed),
        "signature missing": (protected, {}, payload),
        "fifth element": (protected, {}, payload, signed, 0),
        "no payload": (protected, {}, None, signed),
        "empty payload": (protected, {}, b"", signed),
        "payload as text": (protected, {}, "text", signed),
        "payload as map": (protected, {}, MAP, signed),
        "header as map": (HEADER, {}, payload, signed),
        "empty header": (b"", {}, payload, signed),
        "signature as text": (protected, {}, payload, "x" * 64),
        "unprotected as list": (protected, [], payload, signed),
        "unprotected null": (protected, None, payload, signed),
        "unprotected kid": (protected, {4: _KID}, payload, signed),
        "unprotected algorithm": (protected, {1: cose.ES256}, payload, signed),
        "unprotected receipt": (protected, {394: [b"receipt"]}, payload, signed),
        "unprotected text key": (protected, {"a": 1}, payload, signed),
    }
    for name, parts in mixed.items():
        yield Case(name, _assembled(*parts), A)
    later = to_map(CLAIMS) | {LABELS["loa"]: 1}
    yield Case("payload of another token", _assembled(protected, {}, cbor.encode(later), signed), A)
    yield Case("signature of another token", _assembled(protected, {}, payload, cose.parse(token(later)).signature), A)
    for name, tag in {"untagged": b"", "tag 16": b"\xd0", "tag 17": b"\xd1", "tag 98": b"\xd8\x62"}.items():
        yield Case(name, token(tag=tag), A)
    for name, tag in {"CWT tag 61 outside": b"\xd8\x3d\xd2", "long tag": b"\xd8\x12", "twice": b"\xd2\xd2"}.items():
        yield Case(f"tagged {name}", token(tag=tag), A)


def _signatures() -> Iterator[Case]:
    protected, payload = _PARTS.protected, _PARTS.payload
    r, s = signature(protected, payload)
    forged = {
        "mirrored signature (high S)": cose.raw_signature(r, _ORDER - s),
        "r and s swapped": cose.raw_signature(s, r),
        "r zero": cose.raw_signature(0, s),
        "s zero": cose.raw_signature(r, 0),
        "both zero": bytes(64),
        "r beyond the order": cose.raw_signature(_ORDER, s),
        "all ones": b"\xff" * 64,
        "r one, s one": cose.raw_signature(1, 1),
        "signature in DER": utils.encode_dss_signature(r, s),
        "63 bytes of signature": cose.raw_signature(r, s)[:63],
        "65 bytes of signature": cose.raw_signature(r, s) + b"\x00",
        "no signature": b"",
        "signature of another key": cose.raw_signature(*signature(protected, payload, OTHER_KEY)),
        "signature over the payload alone": cose.raw_signature(*_over(payload)),
        "signature over header and payload side by side": cose.raw_signature(*_over(protected + payload)),
        "signature with another context": cose.raw_signature(*_over(_sig_structure("Signature", protected, b""))),
        "signature with outside data": cose.raw_signature(*_over(_sig_structure("Signature1", protected, b"x"))),
    }
    for name, signed in forged.items():
        yield Case(name, _assembled(protected, {}, payload, signed), A)
    large = ec.derive_private_key(7, ec.SECP384R1())
    longer = utils.decode_dss_signature(large.sign(payload, ec.ECDSA(SHA384(), deterministic_signing=True)))
    yield Case("96 bytes of signature", _assembled(protected, {}, payload, b"".join(n.to_bytes(48) for n in longer)), A)
    own_kid = {**HEADER, 4: cose.key_id(OTHER_KEY.public_key())}
    yield Case("signed by a stranger under his own name", token(header=own_kid, key=OTHER_KEY), U)
    yield Case("signed by a stranger under the registry's name", token(key=OTHER_KEY), A)
    yield Case("signed by the registry under a stranger's name", token(header=own_kid), U)


def _over(message: bytes) -> tuple[int, int]:
    r, s = utils.decode_dss_signature(KEY.sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
    return r, min(s, _ORDER - s)


def _sig_structure(context: str, protected: bytes, outside: bytes) -> bytes:
    return bytes(cbor2.dumps([context, protected, outside, _PARTS.payload]))


def _headers() -> Iterator[Case]:
    for name, alg in {"ES384": -35, "ES512": -36, "EdDSA": -8, "HS256": 5, "RS256": -257, "zero": 0}.items():
        yield Case(f"algorithm {name}, rightly signed", token(header={**HEADER, 1: alg}), A)
    yield Case("algorithm as text", token(header={**HEADER, 1: "ES256"}), A)
    yield Case("algorithm null", token(header={**HEADER, 1: None}), A)
    yield Case("algorithm true", token(header={**HEADER, 1: True}), A)
    yield Case("later version with a later algorithm", token(header={**HEADER, 1: -35, 16: "govah-assertion;v=2"}), V)
    for version in ("0", "2", "10", "1.0", "01", " 1", "1 ", "1;x=y", ""):
        yield Case(f"version «{version}»", token(header={**HEADER, 16: f"govah-assertion;v={version}"}), V)
    for other in ("govah-answer;v=1", "govah-request;v=1", "govah-assertion", "GOVAH-ASSERTION;v=1", "", "JWT"):
        yield Case(f"rightly signed as «{other}»", token(header={**HEADER, 16: other}), A)
    forged = cbor2.dumps({**HEADER, 16: "govah-assertion;v=2"})
    yield Case("version changed after signing", _assembled(forged, {}, _PARTS.payload, _PARTS.signature), A)
    for label in HEADER:
        missing = {other: value for other, value in HEADER.items() if other != label}
        yield Case(f"header {label} missing", token(header=missing), A)
    for name, label, value in (("crit", 2, [16]), ("content type", 3, 61), ("x5chain", 33, b"x"), ("text", "a", 1)):
        yield Case(f"header with {name} too", token(header={**HEADER, label: value}), A)
    yield Case("kid as text", token(header={**HEADER, 4: "registry"}), A)
    yield Case("kid empty", token(header={**HEADER, 4: b""}), U)
    yield Case("kid one byte short", token(header={**HEADER, 4: _KID[:15]}), U)
    yield Case("kid one byte long", token(header={**HEADER, 4: _KID + b"\x00"}), U)
    yield Case("type as number", token(header={**HEADER, 16: 61}), A)
    reordered = b"\xa3" + b"".join(bytes(cbor2.dumps(x)) for x in (4, _KID, 1, -7, 16, assertion.TYPE))
    yield Case("header keys in another order", token(raw_header=reordered), A)
    doubled = b"\xa4" + b"".join(bytes(cbor2.dumps(x)) for x in (1, -7, 1, -7, 4, _KID, 16, assertion.TYPE))
    yield Case("header with the algorithm twice", token(raw_header=doubled), A)
    yield Case("header with a trailing byte", token(raw_header=_PARTS.protected + b"\x00"), A)
    yield Case("header indefinite", token(raw_header=b"\xbf" + _PARTS.protected[1:] + b"\xff"), A)


def _claims() -> Iterator[Case]:
    for name, label in LABELS.items():
        without = {other: value for other, value in MAP.items() if other != label}
        yield Case(f"claim {name} missing, rightly signed", token(without), C)
        yield Case(f"claim {name} null, rightly signed", token({**MAP, label: None}), C)
        yield Case(f"claim {name} a list, rightly signed", token({**MAP, label: []}), C)
        wrong = 7 if not isinstance(MAP[label], int) else "7"
        yield Case(f"claim {name} of another type, rightly signed", token({**MAP, label: wrong}), C)
        as_text: dict[Any, Any] = {**without, str(label): MAP[label]}
        yield Case(f"claim {name} under a text label, rightly signed", token(as_text), C)
    bad = {
        *(("loa", 0), ("loa", 3), ("loa", 4), ("loa", 5), ("loa", True), ("evb", 0), ("evb", 1), ("evb", 1 << 16)),
        *(("evb", 0x89), ("use", 0), ("use", 2), ("pol", "loa-policy/1"), ("pol", "loa-policy/spine-1"), ("trk", "")),
        *(("trk", CLAIMS.trk.lower()), ("trk", CLAIMS.trk.replace("-", "")), ("trk", "2222-2222-2222-2222")),
        *(("nonce", bytes(31)), ("cti", bytes(15)), ("sub", bytes(17)), ("aud", ""), ("aud", AUDIENCE + "\n")),
        *(("iss", "a\x1b[2J"), ("exp", AT - 1), ("exp", AT + 901), ("nbf", AT + 1), ("iat", -1), ("iat", 1 << 41)),
    }
    for name, value in sorted(bad, key=repr):
        yield Case(f"claim {name} = {value!r}, rightly signed", token({**MAP, LABELS[name]: value}), C)
    for name, payload in {"empty": b"", "not CBOR": b"\xff", "a list": b"\x80", "an empty map": b"\xa0"}.items():
        yield Case(f"payload {name}, rightly signed", token(raw_payload=payload), C)
    turned = b"\xb3" + b"".join(bytes(cbor2.dumps(k) + cbor2.dumps(v)) for k, v in reversed(MAP.items()))
    yield Case("claims in another order, rightly signed", token(raw_payload=turned), C)
    twice = b"\xb4" + _PARTS.payload[1:] + bytes(cbor2.dumps(LABELS["loa"]) + cbor2.dumps(2))
    yield Case("level twice, rightly signed", token(raw_payload=twice), C)
    truth = b"\xb4" + _PARTS.payload[1:] + b"\xf5\x61x"
    yield Case("issuer once more under true, rightly signed", token(raw_payload=truth), C)
    yield Case("claims with a trailing byte, rightly signed", token(raw_payload=_PARTS.payload + b"\x00"), C)
    yield Case("claims inside a tag, rightly signed", token(raw_payload=b"\xd8\x3d" + _PARTS.payload), C)
    shared = b"\x84" + b"".join(
        b"\xd8\x1c\x98\x3c" + (b"\x01" if n == 0 else bytes([0xD8, 0x1D, n - 1])) * 60 for n in range(4)
    )
    yield Case("claims that unfold into millions, rightly signed", token(raw_payload=shared), C)  # fmt: skip
    yield Case("envelope that unfolds into millions", b"\xd2" + shared, A)
    yield Case("an unknown claim more, rightly signed", token({**MAP, -70011: [b"x", 2]}), NOW)
    low = {**MAP, LABELS["loa"]: 1, LABELS["evb"]: int(loa.Evidence.PASSIVE_AUTH)}
    yield Case("level 1 with its evidence", token(low), NOW)


def _times_and_audiences() -> Iterator[Case]:
    for name, at, expected in (
        *(("at its issue", AT, NOW), ("30 s before its issue", AT - 30, NOW), ("31 s before its issue", AT - 31, C)),
        *(("at its end", AT + 900, NOW), ("30 s after its end", AT + 930, NOW), ("31 s after", AT + 931, PAST)),
        *(("a day later", AT + 86_400, PAST), ("forty years later", AT + 40 * 31_557_600, PAST), ("in 1970", 0, C)),
    ):
        yield Case(name, GOOD, expected, at=at)
    for who in ("10380284790/0418", "10380284790", AUDIENCE + " ", " " + AUDIENCE, "", AUDIENCE.replace("/", "//")):
        yield Case(f"shown to «{who}»", GOOD, OTHER, audience=who)
    yield Case("nobody says for whom", GOOD, OTHER, audience=None)
    yield Case("nobody says for whom, in the past", GOOD, OTHER, audience=None, at=AT + 86_400)
    yield Case("issued for another", token({**MAP, LABELS["aud"]: "10100000000/1"}), OTHER)


def cases() -> list[Case]:
    """All cases, in the order of the file."""
    made = [
        *(Case("untouched", GOOD, NOW), *_bits(), *_lengths(), *_parts(), *_signatures()),
        *(*_headers(), *_claims(), *_times_and_audiences()),
    ]
    if len({case.name for case in made}) != len(made):
        raise ValueError("two cases with one name")
    return made


def text() -> str:
    """The file: JSON with one case a line."""
    lines = (
        json.dumps(
            {"name": c.name, "expected": c.expected, "audience": c.audience, "at": c.at, "token": c.token.hex()},
            ensure_ascii=False,
        )
        for c in cases()
    )
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main() -> None:
    """Write the file, or say whether it is current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the file; without it only compare")
    if parser.parse_args().write:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        FILE.write_text(text(), encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text():
        raise SystemExit(f"{FILE.name} is not current: python -m tools.verifier.corpus --write")


if __name__ == "__main__":
    main()

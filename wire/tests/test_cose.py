from __future__ import annotations

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from wire import cbor, cose
from wire.tests.examples import OTHER_KEY, REGISTRY_KEY

TYPE = "govah-test;v=1"
PAYLOAD = b"what was said"
PUBLIC = REGISTRY_KEY.public_key()
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PROTECTED = cbor.encode({1: -7, 4: cose.key_id(PUBLIC), 16: TYPE})


def made(
    *, protected: bytes = PROTECTED, unprotected: object = None, payload: bytes = PAYLOAD, head: bytes = b"\xd2"
) -> bytes:
    """An envelope with a right signature over whatever it is given, written by hand."""
    signature = raw(protected, payload)
    return head + bytes(cbor2.dumps([protected, {} if unprotected is None else unprotected, payload, signature]))


def raw(protected: bytes, payload: bytes) -> bytes:
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    r, s = utils.decode_dss_signature(REGISTRY_KEY.sign(signed, ec.ECDSA(SHA256())))
    return r.to_bytes(32) + min(s, ORDER - s).to_bytes(32)


def with_signature(signature: bytes) -> bytes:
    return b"\xd2" + cbor.encode([PROTECTED, {}, PAYLOAD, signature])


def test_a_hand_made_envelope_of_the_profile_opens() -> None:
    assert cose.open_signed(made(), PUBLIC, TYPE) == PAYLOAD


@given(st.binary(max_size=512))
def test_what_is_signed_opens_as_it_was(payload: bytes) -> None:
    data = cose.sign(payload, REGISTRY_KEY, TYPE)
    assert cose.open_signed(data, PUBLIC, TYPE) == payload
    assert int.from_bytes(data[-32:]) <= ORDER // 2


def test_every_single_changed_bit_is_noticed() -> None:
    data = cose.sign(PAYLOAD, REGISTRY_KEY, TYPE)
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((cbor.CborRefusedError, cose.SignatureRefusedError)):
            cose.open_signed(bytes(changed), PUBLIC, TYPE)


def test_every_shorter_and_any_longer_form_is_refused() -> None:
    data = cose.sign(PAYLOAD, REGISTRY_KEY, TYPE)
    for cut in [data[:length] for length in range(len(data))] + [data + b"\x00", data + data, b"\x00" + data]:
        with pytest.raises(cbor.CborRefusedError):
            cose.parse(cut)


def test_the_mirrored_signature_is_refused_although_it_verifies() -> None:
    data = cose.sign(PAYLOAD, REGISTRY_KEY, TYPE)
    r, s = int.from_bytes(data[-64:-32]), int.from_bytes(data[-32:])
    mirrored = with_signature(cose.raw_signature(r, ORDER - s))
    signed = cbor2.dumps(["Signature1", PROTECTED, b"", PAYLOAD])
    PUBLIC.verify(utils.encode_dss_signature(r, ORDER - s), signed, ec.ECDSA(SHA256()))
    with pytest.raises(cose.SignatureRefusedError):
        cose.open_signed(mirrored, PUBLIC, TYPE)


@pytest.mark.parametrize("length", [0, 1, 63, 65, 70, 72, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(cose.SignatureRefusedError):
        cose.open_signed(with_signature(bytes(range(1, length + 1))), PUBLIC, TYPE)


@pytest.mark.parametrize(("r", "s"), [(0, 0), (0, 1), (1, 0), (ORDER, 1), (1, ORDER), ((1 << 256) - 1, 1), (1, 1)])
def test_signature_numbers_outside_the_group_are_refused(r: int, s: int) -> None:
    with pytest.raises(cose.SignatureRefusedError):
        cose.open_signed(with_signature(cose.raw_signature(r, s)), PUBLIC, TYPE)


@pytest.mark.parametrize(
    "header",
    [
        {},
        {1: -7},
        {1: -7, 4: b"k"},
        {1: -7, 16: TYPE},
        {4: b"k", 16: TYPE},
        {1: -7, 4: b"k", 16: TYPE, 2: [16]},
        {1: -7, 4: b"k", 16: TYPE, 5: b"iv"},
        {1: -7, 4: b"k", 16: TYPE, 33: b"certificate"},
        {1: -7, 4: b"k", 16: TYPE, "x": 1},
        {1: "ES256", 4: b"k", 16: TYPE},
        {1: True, 4: b"k", 16: TYPE},
        {1: -7, 4: "k", 16: TYPE},
        {1: -7, 4: b"k", 16: 61},
        {1: -7, 4: b"k" * 600, 16: TYPE},
        [1, -7],
        -7,
    ],
)
def test_a_protected_header_that_is_not_exactly_ours_is_refused(header: object) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(made(protected=bytes(cbor2.dumps(header))))


@pytest.mark.parametrize(
    "protected",
    [
        pytest.param(b"", id="empty, as RFC 9052 writes an empty header"),
        pytest.param(PROTECTED + b"\x00", id="trailing byte"),
        pytest.param(b"\xa3\x04\x41k\x01\x26\x10\x6e" + TYPE.encode(), id="keys out of order"),
        pytest.param(b"\xa4\x01\x26\x01\x26\x04\x41k\x10\x6e" + TYPE.encode(), id="algorithm twice"),
    ],
)
def test_a_signed_header_in_another_encoding_is_refused(protected: bytes) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(made(protected=protected))


@pytest.mark.parametrize("unprotected", [{1: -7}, {4: b"k"}, {394: [b"receipt"]}, {"x": 0}, [], b"", 0])
def test_anything_in_the_unsigned_header_is_refused(unprotected: object) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(made(unprotected=unprotected))


@pytest.mark.parametrize("head", [b"", b"\xd1", b"\xd3", b"\xd8\x12", b"\xd8\x62", b"\xd8\x3d\xd2", b"\xd2\xd2"])
def test_a_missing_other_or_second_tag_is_refused(head: bytes) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(made(head=head))


@pytest.mark.parametrize(
    "body",
    [
        [PROTECTED, {}, PAYLOAD],
        [PROTECTED, {}, PAYLOAD, bytes(64), 0],
        [PROTECTED, {}, None, bytes(64)],
        [PROTECTED, {}, "text", bytes(64)],
        [{1: -7, 4: b"k", 16: TYPE}, {}, PAYLOAD, bytes(64)],
        [PROTECTED, {}, PAYLOAD, [bytes(64)]],
        {},
        0,
    ],
)
def test_an_envelope_of_another_shape_is_refused(body: object) -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(b"\xd2" + bytes(cbor2.dumps(body)))


@pytest.mark.parametrize("other", ["govah-test;v=2", "govah-test;v=1 ", "govah-test", "GOVAH-TEST;v=1", ""])
def test_a_signature_for_one_purpose_does_not_serve_another(other: str) -> None:
    data = cose.sign(PAYLOAD, REGISTRY_KEY, other)
    with pytest.raises(cbor.CborRefusedError):
        cose.open_signed(data, PUBLIC, TYPE)


@pytest.mark.parametrize("alg", [-35, -8, -257, 0, 5, 7])
def test_another_algorithm_is_refused_even_with_a_right_signature(alg: int) -> None:
    header = cbor.encode({1: alg, 4: cose.key_id(PUBLIC), 16: TYPE})
    with pytest.raises(cose.SignatureRefusedError):
        cose.open_signed(made(protected=header), PUBLIC, TYPE)


def test_another_key_is_refused_and_so_are_keys_of_other_kinds() -> None:
    data = cose.sign(PAYLOAD, REGISTRY_KEY, TYPE)
    others: list[object] = [
        OTHER_KEY.public_key(),
        ec.derive_private_key(7, ec.SECP384R1()).public_key(),
        ec.derive_private_key(7, ec.SECP256K1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    ]
    for other in others:
        with pytest.raises(cose.SignatureRefusedError):
            cose.verify(cose.parse(data), other)  # type: ignore[arg-type]  # keys come untyped out of certificates


def test_a_key_of_another_curve_signs_nothing() -> None:
    with pytest.raises(ValueError, match="P-256"):
        cose.sign(PAYLOAD, ec.derive_private_key(7, ec.SECP384R1()), TYPE)


def test_an_envelope_that_nobody_could_open_is_not_made() -> None:
    with pytest.raises(cbor.CborRefusedError):
        cose.sign(bytes(cose.MAX_SIGN1_BYTES), REGISTRY_KEY, TYPE)
    with pytest.raises(cbor.CborRefusedError):
        cose.sign(PAYLOAD, REGISTRY_KEY, "x" * 600)
    with pytest.raises(cbor.CborRefusedError):
        cose.parse(b"\xd2" + bytes(cose.MAX_SIGN1_BYTES))


@given(st.binary(max_size=128))
def test_no_bytes_make_parse_raise_anything_else(data: bytes) -> None:
    for candidate in (data, b"\xd2" + data, b"\xd2\x84" + data):
        try:
            cose.parse(candidate)
        except cbor.CborRefusedError:
            continue


def test_key_ids_are_the_head_of_the_thumbprint() -> None:
    assert cose.key_id(PUBLIC) == cose.thumbprint(PUBLIC)[:16]
    assert len(cose.thumbprint(PUBLIC)) == 32
    assert cose.key_id(PUBLIC) != cose.key_id(OTHER_KEY.public_key())

"""How an envelope is judged: one honest form, and everything else refused by name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tools.simulators.party import files, tls
from tools.simulators.party.envelope import EnvelopeRefusedError, open_envelope, size_bucket, terminal_key
from tools.simulators.registry.tests.world import START_MS, Terminal

NOW = datetime.fromtimestamp(START_MS / 1000, UTC)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.authority(tmp_path_factory.mktemp("ca"), "SIMULATED fleet", now_ms=START_MS)


@pytest.fixture(scope="module")
def authorities(ca: tls.Authority) -> list[x509.Certificate]:
    return files.certificates(ca.certificate)


@pytest.fixture(scope="module")
def terminal(ca: tls.Authority) -> Terminal:
    return Terminal.make(ca, "t-0001")


def certificate(
    ca: tls.Authority,
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    purpose: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.CLIENT_AUTH,
    valid: tuple[int, int] = (-1, 1),
    authority: bool = False,
    names: tuple[str, ...] = ("t-0001",),
) -> bytes:
    """A terminal certificate with one thing wrong."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]))
        .issuer_name(files.certificates(ca.certificate)[0].subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW + timedelta(days=valid[0]))
        .not_valid_after(NOW + timedelta(days=valid[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    return builder.sign(ca.key, SHA256()).public_bytes(Encoding.DER)


def test_an_honest_envelope_opens(terminal: Terminal, authorities: list[x509.Certificate]) -> None:
    opened = open_envelope(terminal.envelope(b"sealed", START_MS), authorities, now_ms=START_MS)
    assert opened.body == b"sealed"
    assert opened.thumbprint == terminal.thumbprint
    for at_ms in (START_MS - 120_000, START_MS + 120_000):
        open_envelope(terminal.envelope(b"sealed", at_ms), authorities, now_ms=START_MS)


def test_a_refusal_names_the_trace_id_if_it_could_be_read(
    terminal: Terminal, authorities: list[x509.Certificate]
) -> None:
    data = terminal.envelope(b"sealed", START_MS - 120_001, trace_id=bytes(16))
    with pytest.raises(EnvelopeRefusedError) as caught:
        open_envelope(data, authorities, now_ms=START_MS)
    assert caught.value.trace_id == bytes(16)
    with pytest.raises(EnvelopeRefusedError) as caught:
        open_envelope(b"\xa0", authorities, now_ms=START_MS)
    assert caught.value.trace_id is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"purpose": ExtendedKeyUsageOID.SERVER_AUTH}, "not for clients"),
        ({"purpose": None}, "names no purpose"),
        ({"valid": (-2, -1)}, "not valid now"),
        ({"valid": (1, 2)}, "not valid now"),
        ({"authority": True}, "no terminal's"),
        ({"names": ("server.ingest",)}, "no terminal"),
        ({"names": ("t-0001", "t-0002")}, "no terminal"),
        ({"names": ()}, "no terminal"),
        ({"key": ec.generate_private_key(ec.SECP384R1())}, "not on P-256"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "not on P-256"),
    ],
)
def test_a_certificate_that_is_not_a_terminals_is_refused(
    ca: tls.Authority, authorities: list[x509.Certificate], wrong: dict[str, object], reason: str
) -> None:
    der = certificate(ca, **wrong)  # type: ignore[arg-type]  # one keyword at a time
    with pytest.raises(EnvelopeRefusedError, match=reason):
        terminal_key(der, authorities, now_ms=START_MS)


def test_a_certificate_of_another_authority_of_the_same_name_is_refused(
    tmp_path: Path, authorities: list[x509.Certificate]
) -> None:
    other = tls.authority(tmp_path, "SIMULATED fleet", now_ms=START_MS)
    with pytest.raises(EnvelopeRefusedError, match="another authority"):
        terminal_key(certificate(other), authorities, now_ms=START_MS)


def test_any_of_several_authorities_will_do(ca: tls.Authority, tmp_path: Path) -> None:
    other = tls.authority(tmp_path, "SIMULATED next fleet", now_ms=START_MS)
    both = [*files.certificates(other.certificate), *files.certificates(ca.certificate)]
    terminal_key(certificate(ca), both, now_ms=START_MS)
    terminal_key(certificate(other), both, now_ms=START_MS)


@pytest.mark.parametrize(("size", "bucket"), [(0, 0), (1, 1), (1024, 1), (1025, 2)])
def test_sizes_are_rounded_up_to_whole_kib(size: int, bucket: int) -> None:
    assert size_bucket(bytes(size)) == bucket


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library says more of a bad certificate than its refusal
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_an_envelope_can_be_changed(
    terminal: Terminal, authorities: list[x509.Certificate], at: int, flip: int
) -> None:
    data = bytearray(terminal.envelope(b"sealed", START_MS))
    data[at % len(data)] ^= flip
    with pytest.raises(EnvelopeRefusedError):
        open_envelope(bytes(data), authorities, now_ms=START_MS)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the library says more of a bad certificate than its refusal
@given(data=st.binary(max_size=400))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_no_certificate(authorities: list[x509.Certificate], data: bytes) -> None:
    with pytest.raises(EnvelopeRefusedError):
        terminal_key(data, authorities, now_ms=START_MS)

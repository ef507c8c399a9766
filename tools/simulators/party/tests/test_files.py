"""A party's files: made once, kept, secrets for their owner only."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from tools.simulators.party import files, tls
from tools.simulators.registry.tests.world import START_MS


def test_keys_secrets_and_the_authority_survive_a_restart(tmp_path: Path) -> None:
    first = tls.authority(tmp_path, "SIMULATED", now_ms=START_MS)
    again = tls.authority(tmp_path, "SIMULATED", now_ms=START_MS + 1)
    assert files.public_pem(first.key.public_key()) == files.public_pem(again.key.public_key())
    assert first.certificate.read_bytes() == again.certificate.read_bytes()
    assert files.secret(tmp_path / "k", lambda: b"one") == files.secret(tmp_path / "k", lambda: b"two") == b"one"


def test_what_is_secret_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    ca = tls.authority(tmp_path, "SIMULATED", now_ms=START_MS)
    files.secret(tmp_path / "k", lambda: b"one")
    server = tls.server(ca, tmp_path / "server.pem", ["127.0.0.1"], now_ms=START_MS)
    for path in (tmp_path / "ca-key.pem", tmp_path / "k", server):
        assert path.stat().st_mode & 0o077 == 0


def test_what_is_not_a_key_or_certificate_is_refused_by_name(tmp_path: Path) -> None:
    wrong = tmp_path / "key.pem"
    wrong.write_text("nothing")
    with pytest.raises(files.PartyFileError, match=r"key\.pem"):
        files.private_key(wrong)
    with pytest.raises(files.PartyFileError, match=r"key\.pem"):
        files.certificates(wrong)
    with pytest.raises(files.PartyFileError, match=r"absent\.pem"):
        files.certificates(tmp_path / "absent.pem")


def test_the_certificates_load_into_a_strict_tls_context(tmp_path: Path) -> None:
    ca = tls.authority(tmp_path, "SIMULATED", now_ms=START_MS)
    client = tls.client(ca, tmp_path / "client.pem", "nix", now_ms=START_MS)
    context = ssl.create_default_context(cafile=str(ca.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(client)

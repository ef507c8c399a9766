"""A party's files: made once, kept, secrets for their owner only."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path

import pytest

from tools.simulators.nix.store import Store as NixStore
from tools.simulators.party import files, tls
from tools.simulators.registry.store import Store as RegistryStore
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


@pytest.mark.parametrize("mask", [0o022, 0o000])
@pytest.mark.parametrize("store", [NixStore, RegistryStore])
def test_what_a_party_keeps_is_readable_by_its_owner_only(
    tmp_path: Path, mask: int, store: type[NixStore] | type[RegistryStore]
) -> None:
    before = os.umask(mask)
    try:
        directory = files.private_directory(tmp_path / "deep" / "data")
        database = store(directory / "x.db")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
        database.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert modes == dict.fromkeys(("x.db", "x.db-wal", "x.db-shm"), 0o600)


def test_a_directory_and_a_database_that_were_open_to_others_are_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "x.db").touch(0o644)
    files.private_directory(tmp_path)
    NixStore(tmp_path / "x.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "x.db").stat().st_mode) == 0o600

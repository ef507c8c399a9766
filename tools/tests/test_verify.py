from __future__ import annotations

import base64
import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tools.commands.verify import verify
from tools.verifier import corpus, inputs, words
from wire.assertion import Outcome

AT = "2027-01-15T08:00:00Z"


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def certificate(key: Any = corpus.KEY) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    long_ago = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, long_ago, long_ago + datetime.timedelta(days=1))
    return builder.sign(corpus.KEY, SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A directory with a token in both forms, and the registry's key among other files."""
    (tmp_path / "token").write_bytes(corpus.GOOD)
    (tmp_path / "token.txt").write_bytes(base64.urlsafe_b64encode(corpus.GOOD).rstrip(b"="))
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "registry.pem").write_bytes(pem(corpus.KEY))
    (keys / "README").write_text("not a key")
    return tmp_path


def run(desk: Path, *arguments: str, file: str = "token", key: str = "keys", given: bytes | None = None) -> Result:
    where = file if file == "-" else str(desk / file)
    return CliRunner().invoke(verify, [where, "--key", str(desk / key), *arguments], input=given)


def as_json(result: Result) -> dict[str, Any]:
    assert result.stdout.count("\n") == 1
    said = json.loads(result.stdout)
    assert isinstance(said, dict)
    return said


@pytest.mark.requirement("A10")
def test_a_genuine_token_says_so_in_both_languages_with_its_claims(desk: Path) -> None:
    result = run(desk, "--for", corpus.AUDIENCE, "--at", AT)
    assert result.exit_code == 0
    for part in ("اصیل است", "Genuine, for you, now", "کارت اصیل", "genuine card", corpus.CLAIMS.trk, corpus.AUDIENCE):
        assert part in result.stdout
    assert "۲۵ دی ۱۴۰۵" in result.stdout
    assert AT in result.stdout


@pytest.mark.requirement("A10")
def test_an_offline_answer_says_what_it_did_not_check(desk: Path) -> None:
    for status, arguments in ((0, ["--for", corpus.AUDIENCE, "--at", AT]), (4, ["--at", AT])):
        result = run(desk, *arguments)
        assert result.exit_code == status
        assert "later revocation" in result.stdout
        assert "ابطال" in result.stdout


@pytest.mark.requirement("A12")
@pytest.mark.parametrize(
    ("arguments", "status", "outcome"),
    [
        (["--for", corpus.AUDIENCE, "--at", AT], 0, "genuine_now"),
        (["--for", "۱۰۳۸۰۲۸۴۷۹۰/۰۴۱۷", "--at", AT], 0, "genuine_now"),
        (["--for", corpus.AUDIENCE, "--at", "2027-01-15T11:30:00.5+03:30"], 0, "genuine_now"),
        (["--for", corpus.AUDIENCE, "--at", "2028-01-15T08:00:00Z"], 3, "genuine_past"),
        (["--for", "10380284790/0418", "--at", AT], 4, "genuine_other_audience"),
        (["--at", AT], 4, "genuine_other_audience"),
        (["--for", corpus.AUDIENCE, "--at", "2020-01-15T08:00:00Z"], 1, "cannot_check"),
    ],
)
def test_the_exit_status_tells_the_outcomes_apart(desk: Path, arguments: list[str], status: int, outcome: str) -> None:
    result = run(desk, *arguments, "--json")
    assert (result.exit_code, as_json(result)["outcome"]) == (status, outcome)


def test_every_case_of_the_corpus_has_the_same_outcome_from_the_command_line(desk: Path) -> None:
    for case in corpus.cases()[::9]:
        (desk / "case").write_bytes(case.token)
        at = datetime.datetime.fromtimestamp(case.at, datetime.UTC).isoformat()
        audience = [] if case.audience is None else ["--for", case.audience]
        result = run(desk, *audience, "--at", at, "--json", file="case")
        assert as_json(result)["outcome"] == case.expected, case.name
        assert result.exit_code == words.EXIT_STATUS[case.expected]


@pytest.mark.parametrize(
    "dress",
    [
        pytest.param(lambda raw: raw, id="raw"),
        pytest.param(base64.urlsafe_b64encode, id="base64url"),
        pytest.param(lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"="), id="base64url without padding"),
        pytest.param(lambda raw: base64.urlsafe_b64encode(raw) + b"\r\n", id="with a line end"),
        pytest.param(
            lambda raw: b" \n".join(base64.urlsafe_b64encode(raw)[i : i + 60] for i in range(0, 800, 60)), id="wrapped"
        ),
    ],
)
def test_a_token_may_come_raw_or_as_the_text_of_its_code(desk: Path, dress: Any) -> None:
    (desk / "dressed").write_bytes(dress(corpus.GOOD))
    assert run(desk, "--for", corpus.AUDIENCE, "--at", AT, file="dressed").exit_code == 0
    assert run(desk, "--for", corpus.AUDIENCE, "--at", AT, file="-", given=dress(corpus.GOOD)).exit_code == 0


def test_text_with_unused_bits_set_is_not_a_second_form_of_the_token(desk: Path) -> None:
    text = base64.urlsafe_b64encode(corpus.GOOD + b"\x00").rstrip(b"=")
    assert len(text) % 4
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = text[:-1] + letters[letters.index(text[-1:]) | 1 :][:1]
    assert base64.urlsafe_b64decode(twin + b"=" * (-len(twin) % 4)) == corpus.GOOD + b"\x00"
    (desk / "twin").write_bytes(twin)
    assert inputs.read_token(str(desk / "twin")) == twin


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("empty", b"", "cannot_check"),
        ("blank", b" \n", "altered"),
        ("text", b"hello", "altered"),
        ("image", b"\x89PNG\r\n\x1a\n" + bytes(500), "altered"),
        ("standard base64", base64.b64encode(b"\xff\xfe\xfd" * 100), "altered"),
        ("large", bytes(inputs.MAX_TOKEN_FILE_BYTES), "altered"),
        ("larger than any token", bytes(inputs.MAX_TOKEN_FILE_BYTES + 1), "cannot_check"),
    ],
)
def test_a_file_that_is_no_token_is_never_genuine(desk: Path, name: str, content: bytes, outcome: str) -> None:
    (desk / name).write_bytes(content)
    result = run(desk, "--for", corpus.AUDIENCE, "--at", AT, "--json", file=name)
    said = as_json(result)
    assert (result.exit_code, said["outcome"], said["genuine"], said["claims"]) == (1, outcome, False, None)


def test_a_file_or_key_that_is_not_there_cannot_be_checked(desk: Path) -> None:
    for file, key in (("absent", "keys"), ("keys", "keys"), ("token", "absent.pem")):
        result = run(desk, "--json", file=file, key=key)
        said = as_json(result)
        assert (result.exit_code, said["outcome"]) == (1, "cannot_check")
        assert said["reason"]


def pem_of_version_six() -> bytes:
    """A certificate whose version X.509 does not have."""
    der = base64.b64decode(b"".join(certificate().splitlines()[1:-1])).replace(
        b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05", 1
    )
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("content", "clause"),
    [
        (b"", "not a PEM file"),
        (b"\x00\xff" * 50, "not a PEM file"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
        (pem_of_version_six(), "damaged"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "neither"),
        (pem(rsa.generate_private_key(65537, 2048)), "P-256"),
        (pem(ec.derive_private_key(7, ec.SECP384R1())), "P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "P-256"),
        (corpus.KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private key"),
        (b"x" * (inputs.MAX_KEY_FILE_BYTES + 1), "larger"),
        (pem(corpus.KEY)[:60], "not a PEM file"),
    ],
)
def test_a_key_file_that_gives_no_key_means_not_checked(desk: Path, content: bytes, clause: str) -> None:
    (desk / "odd.pem").write_bytes(content)
    result = run(desk, "--for", corpus.AUDIENCE, "--at", AT, "--json", key="odd.pem")
    said = as_json(result)
    assert (result.exit_code, said["outcome"]) == (1, "cannot_check")
    assert clause in said["notes"][0]


def test_an_odd_file_beside_the_right_key_does_no_harm(desk: Path) -> None:
    (desk / "keys" / "odd.pem").write_bytes(b"nonsense")
    result = run(desk, "--for", corpus.AUDIENCE, "--at", AT, "--json")
    assert (result.exit_code, as_json(result)["notes"]) == (0, ["odd.pem: not a PEM file"])


def test_who_cannot_read_every_key_does_not_say_that_no_key_fits(desk: Path) -> None:
    (desk / "keys" / "registry.pem").write_bytes(pem(corpus.OTHER_KEY))
    assert as_json(run(desk, "--for", corpus.AUDIENCE, "--at", AT, "--json"))["outcome"] == "unknown_issuer"
    (desk / "keys" / "odd.pem").write_bytes(b"nonsense")
    assert as_json(run(desk, "--for", corpus.AUDIENCE, "--at", AT, "--json"))["outcome"] == "cannot_check"


def test_a_directory_without_keys_means_not_checked(desk: Path) -> None:
    (desk / "keys" / "registry.pem").unlink()
    assert as_json(run(desk, "--json"))["outcome"] == "cannot_check"


def test_more_key_files_than_the_limit_means_not_checked(desk: Path) -> None:
    for number in range(inputs.MAX_KEY_FILES):
        (desk / "keys" / f"{number}.pem").write_bytes(pem(corpus.OTHER_KEY))
    assert as_json(run(desk, "--json"))["outcome"] == "cannot_check"


def test_a_pipe_among_the_keys_is_not_waited_for(desk: Path) -> None:
    os.mkfifo(desk / "keys" / "pipe.pem")
    assert run(desk, "--for", corpus.AUDIENCE, "--at", AT).exit_code == 0


def test_keys_come_from_certificates_bundles_and_several_options(desk: Path) -> None:
    (desk / "certificate.pem").write_bytes(certificate())
    (desk / "bundle.pem").write_bytes(b"# the registry's keys\n" + pem(corpus.OTHER_KEY) + pem(corpus.KEY))
    (desk / "other.pem").write_bytes(certificate(corpus.OTHER_KEY))
    here = ("--for", corpus.AUDIENCE, "--at", AT)
    assert run(desk, *here, key="certificate.pem").exit_code == 0
    assert run(desk, *here, key="bundle.pem").exit_code == 0
    assert run(desk, *here, key="other.pem").exit_code == 1
    assert run(desk, *here, "--key", str(desk / "keys"), key="other.pem").exit_code == 0


@pytest.mark.parametrize(
    "at",
    [
        *("", "now", "2027", "2027-01-15", "2027-01-15T08:00:00", "2027-13-15T08:00:00Z", "2027-01-15T25:00:00Z"),
        *("2027-W03-5T08:00:00Z", "0000-01-01T00:00:00Z", "1800000000", "2027-01-15 08:00:00Z", "۲۰۲۷-01-15T08:00:00Z"),
    ],
)
def test_a_time_without_its_offset_or_that_does_not_exist_is_wrong_usage(desk: Path, at: str) -> None:
    assert run(desk, "--at", at).exit_code == 2


def test_leaving_out_file_or_key_is_wrong_usage(desk: Path) -> None:
    assert CliRunner().invoke(verify, [str(desk / "token")]).exit_code == 2
    assert CliRunner().invoke(verify, ["--key", str(desk / "keys")]).exit_code == 2
    assert run(desk, "--colour").exit_code == 2


@pytest.mark.parametrize("claim", ["iat", "ret"])
def test_a_signed_time_beyond_every_calendar_is_shown_as_seconds(desk: Path, claim: str) -> None:
    far = 1 << 40
    times = {"iat": far, "nbf": far, "exp": far} if claim == "iat" else {"ret": far}
    changed = corpus.MAP | {corpus.LABELS[name]: value for name, value in times.items()}
    (desk / "far").write_bytes(corpus.token(changed))
    for form in ([], ["--json"]):
        result = run(desk, "--at", AT, *form, file="far")
        assert result.exit_code == 4, result.output
        assert str(far) in result.stdout or not form


def test_a_signed_token_that_cannot_be_judged_shows_none_of_its_claims(desk: Path) -> None:
    # the signature holds and the claims were read, but a reader must not take them for an answer
    for form in ([], ["--json"]):
        result = run(desk, "--for", corpus.AUDIENCE, "--at", "2020-01-15T08:00:00Z", *form)
        assert result.exit_code == 1
        assert corpus.CLAIMS.trk not in result.stdout
        assert "later revocation was" not in result.stdout


def test_only_genuine_outcomes_use_a_word_for_valid() -> None:
    for outcome in Outcome:
        fa, en = words.SENTENCES[outcome]
        assert ("اصیل است" in fa) == (outcome in words.GENUINE)
        assert ("Genuine" in en) == (outcome in words.GENUINE)
        assert words.EXIT_STATUS[outcome] in ({0, 3, 4} if outcome in words.GENUINE else {1})
    assert sorted(words.EXIT_STATUS.values()) == [0, 1, 1, 1, 1, 3, 4]

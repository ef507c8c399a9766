"""`govah verify`: what an assertion is worth, offline, to the one who asks."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import click

from edge_agent.kiosk import jalali
from tools.verifier import words
from tools.verifier.inputs import Keys, UnreadableError, read_keys, read_token
from wire import assertion
from wire.assertion import Outcome, Verdict

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@click.command()
@click.argument("file")
@click.option(
    "--key",
    "keys",
    required=True,
    multiple=True,
    metavar="PEM|DIR",
    help="Registry key, certificate, or a directory of *.pem. May be repeated.",
)
@click.option(
    "--for",
    "audience",
    metavar="AUDIENCE",
    help="The relying party that asks. Without it a genuine token is for someone else.",
)
@click.option("--at", metavar="RFC3339", help="The time to judge by, such as 2026-11-21T12:00:00Z. Default: now.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@click.pass_context
def verify(
    ctx: click.Context, *, file: str, keys: tuple[str, ...], audience: str | None, at: str | None, as_json: bool
) -> None:
    """Check the assertion in FILE (raw, or base64url text as in its QR code; "-" reads standard input).

    \b
    Exit status: 0 genuine, for you, now; 3 genuine, for you, past; 4 genuine, for
    another (or --for not given); 1 everything else; 2 wrong usage.
    """
    at_s = int(time.time()) if at is None else _seconds(at)
    audience = None if audience is None else jalali.ascii_digits(audience)
    verdict, notes = _judge(file, keys, audience=audience, at=at_s)
    if as_json:
        click.echo(json.dumps(words.as_json(verdict, at=at_s, audience=audience, notes=notes), ensure_ascii=False))
    else:
        for line in words.lines(verdict, audience=audience, notes=notes):
            click.echo(line)
    ctx.exit(words.EXIT_STATUS[verdict.outcome])


def _judge(file: str, keys: tuple[str, ...], *, audience: str | None, at: int) -> tuple[Verdict, list[str]]:
    try:
        token = read_token(file)
        trusted = read_keys(keys)
    except UnreadableError as exc:
        return Verdict(Outcome.CANNOT_CHECK, str(exc)), []
    verdict = assertion.verify(token, trusted.by_id, audience=audience, at=at)
    return _with_doubt(verdict, trusted), trusted.problems


def _with_doubt(verdict: Verdict, trusted: Keys) -> Verdict:
    """Whoever could not read a key cannot say that no key fits."""
    if verdict.outcome is Outcome.UNKNOWN_ISSUER and trusted.problems:
        return Verdict(Outcome.CANNOT_CHECK, "no readable key fits, and some keys could not be read")
    return verdict


def _seconds(text: str) -> int:
    """Unix seconds of an RFC 3339 time."""
    try:
        if _RFC3339.fullmatch(text) is None:
            raise ValueError("form")  # noqa: TRY301  # same answer as for a date that does not exist
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError) as exc:
        raise click.BadParameter(
            "needs a time with its offset, such as 2026-11-21T12:00:00Z", param_hint="--at"
        ) from exc

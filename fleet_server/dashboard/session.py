"""Who may see the dashboard: one-time login links become sessions; forms carry a word that only their session knows."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import Response

from fleet_server import admin, db

TOKEN_MAX: Final = 128


class LoginNeededError(Exception):
    """No session, an ended one, or an expired one (HTTP 401)."""


class FormRefusedError(Exception):
    """The form came from elsewhere or from an older session (HTTP 403)."""


class Sessions:
    """Opens, checks and ends sessions. `chance` makes their tokens."""

    def __init__(
        self,
        engine: sa.Engine,
        now_ms: Callable[[], int],
        *,
        tls: bool,
        chance: Callable[[], str] = secrets.token_urlsafe,
    ) -> None:
        self._engine = engine
        self._now_ms = now_ms
        self._tls = tls
        self._chance = chance
        # the prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis)
        self.cookie = "__Host-govah_session" if tls else "govah_session"

    def open(self, link: str) -> str | None:
        """A session for a login link that was never used; None for every other. Blocks on the database."""
        if not link or len(link) > TOKEN_MAX:
            return None
        token = self._chance()
        with db.writing(self._engine) as connection:
            good = admin.consume_link(connection, link, session_token=token, now_ms=self._now_ms())
        return token if good else None

    def check(self, request: Request) -> str:
        """The session's token. Blocks on the database.

        Raises:
            LoginNeededError: there is no valid session.
        """
        token = request.cookies.get(self.cookie, "")
        if not token or len(token) > TOKEN_MAX or not self.valid(token):
            raise LoginNeededError
        return token

    def valid(self, token: str) -> bool:
        """Whether the session still is one. Blocks on the database."""
        with db.reading(self._engine) as connection:
            return admin.session_valid(connection, token, now_ms=self._now_ms())

    def end(self, token: str) -> None:
        """Log out, at once and in every tab. Blocks on the database."""
        with db.writing(self._engine) as connection:
            admin.end_session(connection, token)

    def give(self, answer: Response, token: str) -> None:
        """Set the cookie."""
        answer.set_cookie(
            self.cookie, token, max_age=admin.SESSION_LIFE_MS // 1000, httponly=True, samesite="lax", secure=self._tls
        )

    def take(self, answer: Response) -> None:
        """Remove the cookie."""
        answer.delete_cookie(self.cookie, httponly=True, samesite="lax", secure=self._tls)


def form_word(token: str) -> str:
    """The word that the forms of this session carry; it does not give the token away."""
    return hashlib.sha256(b"govah-form\x00" + token.encode()).hexdigest()


def own_form(request: Request, given: str, token: str) -> None:
    """Lets only forms of this session's own pages pass.

    Under ``Referrer-Policy: no-referrer`` browsers send ``Origin: null`` with a form of our own (Fetch, section 3.2),
    so then Sec-Fetch-Site has to say that it is.

    Raises:
        FormRefusedError: another origin, or another word.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = f"{request.url.scheme}://{request.headers['host']}"
    same_origin = site in {None, "same-origin"} and (
        origin in {None, own} or (origin == "null" and site == "same-origin")
    )
    if not same_origin or not hmac.compare_digest(given.encode(), form_word(token).encode()):
        raise FormRefusedError

"""The assertion as a QR code. The only file with segno."""

from __future__ import annotations

import base64

import segno

QUIET_ZONE_MODULES = 4
"""ISO/IEC 18004 section 6.3.8."""


def code_text(assertion: bytes) -> str:
    """What the QR code holds: the token as text for any scanner, base64url without padding (RFC 4648 clause 5)."""
    return base64.urlsafe_b64encode(assertion).rstrip(b"=").decode("ascii")


def svg(assertion: bytes, label: str) -> str:
    """An `<svg>` element with the code; `label` is its title for screen readers.

    Error level M (15 %): the code is read from a clean screen or print, and a lower version keeps its modules large.
    """
    code = segno.make(code_text(assertion), error="m", boost_error=False, micro=False)
    inline: str = code.svg_inline(
        scale=1, border=QUIET_ZONE_MODULES, omitsize=True, dark="#000", light="#fff", title=label, svgclass="qr-svg",
        lineclass=None,
    )  # fmt: skip
    return inline

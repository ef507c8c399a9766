"""What the demo ran on: our version and those of the real components, as they say themselves."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess

from edge_agent import __version__
from tools.pcscd import PrivatePcscd

_PACKAGES = ("pcscd", "libccid", "opensc", "mosquitto")
_LIBRARIES = ("pyscard", "paho-mqtt", "mqtt5", "cryptography", "fastapi", "sqlalchemy", "cbor2")


def versions(pcscd: PrivatePcscd) -> dict[str, str]:
    """Component to version."""
    found = {"govah": __version__, "python": platform.python_version(), **pcscd.versions()}
    found |= {name: importlib.metadata.version(name) for name in _LIBRARIES}
    query = subprocess.run(
        ["dpkg-query", "-W", "-f=${Package} ${Version}\n", *_PACKAGES], capture_output=True, text=True, check=False
    )
    for line in query.stdout.splitlines():
        name, _, version = line.partition(" ")
        found.setdefault(name, version)
    return found

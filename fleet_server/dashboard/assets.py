"""Static files, read once at start and served from memory under a path that holds the hash of all of them.

A changed file changes the path, so browsers may keep what they have for ever; no file system path comes from a request.
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response


@dataclass(frozen=True, slots=True)
class Assets:
    """`files` maps a name relative to the folder to its bytes."""

    version: str
    files: dict[str, bytes]

    def url(self, name: str) -> str:
        """Where `name` is served.

        Raises:
            KeyError: no such file; a template names one that is not there.
        """
        if name not in self.files:
            raise KeyError(name)
        return f"/static/{self.version}/{name}"


def load(folder: Path) -> Assets:
    """Read every file under `folder`."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(f"{name}\x00{len(content)}\x00".encode())
        whole.update(content)
    return Assets(whole.hexdigest()[:12], files)


def router(assets: Assets) -> APIRouter:
    """Serves `assets`, and nothing else, below /static/."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/static/{version}/{name:path}")
    async def static(version: str, name: str) -> Response:
        content = assets.files.get(name)
        if content is None or version != assets.version:
            raise HTTPException(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=31536000, immutable"})

    return routes

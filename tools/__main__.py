"""The `govah` command. Each verb lives in a module of `tools.commands` and is imported only when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

_VERBS = {
    "demo": "tools.commands.demo:demo",
    "fleet": "tools.commands.fleet:fleet",
    "sim": "tools.commands.sim:sim",
    "verify": "tools.commands.verify:verify",
}
"""Verb to where its click command lives."""


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is used, so that one verb never needs another's libraries."""

    def __init__(self, *args: Any, verbs: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._verbs = verbs

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self._verbs})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = self._verbs.get(cmd_name)
        if where is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = where.partition(":")
        command = getattr(importlib.import_module(module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{where} is not a command")
        return command


@click.group(cls=LazyGroup, verbs=_VERBS, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Govah (گواه): the terminal for the smart national card, its fleet server and its simulators."""


if __name__ == "__main__":
    main(prog_name="govah")

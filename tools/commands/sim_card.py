"""`govah sim card` and `govah sim trust-list`: a simulated national card, and who vouches for it."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import click

from tools.simulators import issuer
from tools.simulators.card.control import Control, bound
from tools.simulators.card.memory import FileMemory, MemoryRefusedError
from tools.simulators.card.system import CardSystem
from tools.simulators.card.vpcd import CONTACT, INSTANT, Pace, Slot


@click.command("card")
@click.option("--port", type=click.IntRange(1, 65_535), required=True, help="Port of the virtual reader on loopback.")
@click.option("--number", type=click.IntRange(0, issuer.MAX_SEED), required=True, help="Which citizen's card.")
@click.option("--state", type=click.Path(path_type=Path, file_okay=False), required=True, help="The card's memory.")
@click.option("--fast", is_flag=True, help="No delays; otherwise the card takes the time that a real one takes.")
@click.option("--control", type=click.Path(path_type=Path), help="UNIX socket for orders; STATE/control if not given.")
@click.option("--absent", is_flag=True, help="Start with the card outside of the slot.")
@click.option("--defect", type=click.Choice([defect.value for defect in issuer.Defect]), help="A card that must fail.")
def card(
    *, port: int, number: int, state: Path, fast: bool, control: Path | None, absent: bool, defect: str | None
) -> None:
    """A simulated national card. Prints one JSON line when it is ready and stays until it is told to end."""
    path = control or state / "control"
    image = issuer.personalise(number, None if defect is None else issuer.Defect(defect))
    try:
        with FileMemory.opened(state, number) as memory:
            pace = INSTANT if fast else CONTACT
            try:
                asyncio.run(_run(CardSystem(image, memory), number, port, pace, control=path, absent=absent))
            finally:
                path.unlink(missing_ok=True)
    except (MemoryRefusedError, OSError) as exc:
        raise click.ClickException(str(exc)) from exc


@click.command("trust-list")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def trust_list(file: Path) -> None:
    """Write the roots of all simulated cards to FILE, as PEM."""
    file.write_bytes(issuer.trust_list_pem())


async def _run(system: CardSystem, number: int, port: int, pace: Pace, *, control: Path, absent: bool) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with asyncio.TaskGroup() as tasks:
        slot = Slot(system, port, pace, tasks)
        server = await Control(slot, system).listen(bound(control))
        if not absent:
            slot.insert()
        ready = {"number": number, "atr": system.atr.hex().upper(), "port": port, "control": str(control)}
        click.echo(json.dumps(ready))
        await stop.wait()
        server.close()
        await slot.pull()

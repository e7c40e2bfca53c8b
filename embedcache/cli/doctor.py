"""`embedcache doctor`: is this machine ready, and what mends it if not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json

if TYPE_CHECKING:
    from embedcache.doctor import Diagnosis

Store = Annotated[
    Path,
    typer.Option(
        help="Where features are, or will be, stored.", callback=lambda value: value.expanduser()
    ),
]
_TORCHVISION = {
    "healthy": "healthy",
    "repaired": "its compiled part does not load; embedcache declares what the import lacks",
    "mismatched": "made for another torch",
    "absent": "not installed",
}
_FETCH = "embedcache encoders fetch "


def doctor(store: Store = Path(), json: Json = False) -> None:
    """Look at this machine: device, libraries, room, proxies, key, and which encoders are ready.

    Exits with 1 if something is broken that everything needs. Changes nothing.

    Example: embedcache doctor
    """
    from embedcache.cli.show import print_json
    from embedcache.doctor import diagnose

    found = diagnose(store)
    if json:
        print_json(found)
    else:
        for label, text in _lines(found):
            typer.echo(f"{label:<15}{text}")
        _show_problems(found)
    if not found.sound:
        raise typer.Exit(1)


def _lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    from embedcache.doctor import EXTRAS

    made, libraries = found.provenance, found.libraries
    yield "embedcache", f"{made.packages.get('embedcache-bench', '?')}, Python {made.python}"
    yield "system", made.system
    yield "device", ", ".join(libraries.devices) or "none"
    yield "torch", f"{libraries.torch} ({libraries.build} build)" if libraries.torch else "broken"
    yield "torchvision", _TORCHVISION[libraries.torchvision]
    others = (f"{name} {number}" for name, number in made.packages.items())
    yield "with", ", ".join(one for one in others if not one.startswith(("torch", "embedcache")))
    yield "memory", "not known" if found.memory is None else f"{found.memory / 1e9:,.1f} GB free"
    for place, free in found.disk.items():
        yield f"disk, {place}", f"{free / 1e9:,.1f} GB free"
    yield "key", found.key
    yield "set", ", ".join(found.variables) or "no variable for proxies, certificates or the hub"
    for extra, there in found.extras.items():
        if not there:
            use = EXTRAS[extra][1]
            yield "not here", f"{use}: pip install 'embedcache-bench[{extra}]'"
    yield "ready", ", ".join(found.ready)
    fetched = [name for name, needs in found.missing.items() if needs.startswith(_FETCH)]
    if fetched:
        names = (f"{name}{found.missing[name].removeprefix(_FETCH + name)}" for name in fetched)
        yield "not ready", f"{', '.join(names)}: {_FETCH}NAME"
    for name, needs in found.missing.items():
        if name not in fetched:
            yield "not ready", f"{name}: {needs}"


def _show_problems(found: Diagnosis) -> None:
    if not found.problems:
        typer.echo("\nNothing is wrong.")
        return
    typer.echo("\nWhat is wrong, and what mends it:")
    for problem in found.problems:
        weight = "nothing runs without it: " if problem.fatal else ""
        typer.echo(f"  {weight}{problem.what}\n    {problem.mend}")

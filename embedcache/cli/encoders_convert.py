"""`embedcache encoders convert`: an encoder's weights as one safe file with its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json

Reference = Annotated[
    str, typer.Argument(metavar="NAME=WEIGHTS", help="As --encoder takes it; variants too.")
]
Target = Annotated[
    Path, typer.Argument(metavar="OUT.safetensors", help="The encoder file; must not exist yet.")
]


def convert(encoder: Reference, out: Target, json: Json = False) -> None:
    """Write an encoder's weights as safetensors with its contract; same feature id as before.

    Example: embedcache encoders convert ultrasam=UltraSam.pth ultrasam.safetensors
    """
    from embedcache.cli.show import print_json
    from embedcache.encoders.convert import convert as convert_weights

    out = out.expanduser()
    made = convert_weights(encoder, out)
    if json:
        print_json({"feature_id": made.contract.feature_id, **_plain(made)})
        return
    typer.echo(f"{out.name}: {out.stat().st_size / 1e6:,.1f} MB, feature id as before")
    typer.echo(f"  {made.contract.feature_id}  {made.name}")
    typer.echo(f"  use it as --encoder {out}")


def _plain(made: object) -> dict[str, object]:
    from embedcache.schema import plain

    return dict(plain(made))

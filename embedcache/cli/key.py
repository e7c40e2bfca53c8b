"""`embedcache key`: the secret behind pseudonyms."""

from __future__ import annotations

from typing import Annotated

import typer

from embedcache.cli.arguments import Json

app = typer.Typer(help="The key behind patients' pseudonyms.", no_args_is_help=True)


@app.callback()
def _key() -> None:
    """Keep `show` a command of its own: Typer would merge a single one into the group."""


@app.command()
def show(
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the key itself.")] = False,
    json: Json = False,
) -> None:
    """Say which key makes pseudonyms and where it lies; makes one on first use.

    Example: embedcache key show
    """
    from embedcache.cli.show import print_json
    from embedcache.store.pseudonyms import owner_key

    key = owner_key()
    secret = {"key": key.secret.hex()} if reveal else {}
    if json:
        print_json({"key_id": key.key_id, "place": key.place, **secret})
        return
    typer.echo(f"key id  {key.key_id}")
    typer.echo(f"lies in {key.place}")
    if reveal:
        typer.echo(f"key     {key.secret.hex()}")
    typer.echo(
        "Pseudonyms made with it are pseudonymous, never anonymous: who has the key can name the "
        "patients.\nKeep a copy where the patient list is kept, and never send it with a store."
    )

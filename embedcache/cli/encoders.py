"""`embedcache encoders`: which encoders there are, what each is, and how to get its weights."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True, help="Which encoders there are, what each is, how to get its weights."
)


@app.callback()
def _encoders() -> None:
    """Keep each verb a word of its own: Typer drops the name of a lone command."""

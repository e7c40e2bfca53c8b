"""The command line: one file a command; rooms are imported inside the command."""

from __future__ import annotations

import sys

import typer

from embedcache.cli.report import report
from embedcache.errors import EmbedcacheError

app = typer.Typer(
    name="embedcache",
    help="Which pretrained encoder for a hospital's images, and does it hold elsewhere?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(report)


def main() -> None:
    """Run one command; an error of ours becomes one sentence and its exit code."""
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(args=arguments)
    except EmbedcacheError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo(
            "stopped; what was finished is kept, the same command goes on from there", err=True
        )
        sys.exit(130)
    except Exception as error:  # a defect of ours: say so in a line, the traceback on request
        if debug:
            raise
        typer.echo(f"error: {type(error).__name__}: {error}", err=True)
        typer.echo("this is a defect in embedcache; --debug shows where", err=True)
        sys.exit(1)

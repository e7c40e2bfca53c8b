"""The command line: one file a command; rooms are imported inside the command."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import version
from types import FrameType
from typing import Annotated, NoReturn

import typer

from embedcache.cli.cohorts import app as cohorts
from embedcache.cli.compare import compare
from embedcache.cli.doctor import doctor
from embedcache.cli.encoders import app as encoders
from embedcache.cli.evaluate import evaluate
from embedcache.cli.extract import extract
from embedcache.cli.finetune import finetune
from embedcache.cli.key import app as key
from embedcache.cli.predict import predict
from embedcache.cli.probe import probe
from embedcache.cli.quickstart import quickstart
from embedcache.cli.report import report
from embedcache.cli.shift import shift
from embedcache.cli.store import app as store
from embedcache.cli.zero_shot import zero_shot
from embedcache.durable import refusal
from embedcache.encoders.memory import keep_freed_memory
from embedcache.errors import EmbedcacheError

#: Characters of an error's sentence.
_LONGEST = 4000

app = typer.Typer(
    name="embedcache",
    help="Which pretrained encoder for a hospital's images, and does it hold elsewhere?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(quickstart)
app.command()(doctor)
app.command()(extract)
app.command()(probe)
app.command("zero-shot")(zero_shot)
app.command()(finetune)
app.command()(predict)
app.command()(evaluate)
app.command()(compare)
app.command()(report)
app.command()(shift)
app.add_typer(encoders, name="encoders")
app.add_typer(cohorts, name="cohorts")
app.add_typer(store, name="store")
app.add_typer(key, name="key")


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"embedcache {version('embedcache-bench')}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_tell_version, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run one command; an error of ours becomes one sentence and its exit code."""
    keep_freed_memory()  # before numpy and torch start threads, each with a heap of its own
    debug = "--debug" in sys.argv
    arguments = [word for word in sys.argv[1:] if word != "--debug"]
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stop)
    try:
        app(args=arguments)
    except EmbedcacheError as error:
        if debug:
            raise
        _say(f"error: {error}")
        sys.exit(error.exit_code)
    except Exception as error:  # a defect of ours: said in a line, with its place on request
        if debug:
            raise
        if refused := isinstance(error, OSError) and refusal(error):
            _say(f"error: {refused}")
            sys.exit(refused.exit_code)
        _say(f"error: {type(error).__name__}: {error}")
        _say("this is a defect in embedcache; --debug shows where")
        sys.exit(1)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    """On Ctrl-C, or when a scheduler ends the job: unwind, so that leases write what they hold."""
    signal.signal(number, signal.SIG_DFL)  # a second one means it
    _say("stopping; what is finished is kept, and the same command goes on from there")
    sys.exit(128 + number)


def _say(line: str) -> None:
    # A name out of a stranger's file may hold line breaks, moves of the cursor, or a book.
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:_LONGEST])
    typer.echo(f"{shown}…" if len(line) > _LONGEST else shown, err=True)

"""What a person sees: bars on a terminal, plain lines in a pipe, tables, JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from embedcache.progress import Progress, Stage


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Give a verb its `Progress`: bars where stderr is a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield PlainLines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    # Models and encoders take minutes: rich forgets what is older than half of one, and with it
    # the time left.
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=3600) as bars:
        yield RichBars(bars)


class RichBars:
    """Draws stages as bars, one below the other."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        """Open a bar."""
        task = self._bars.add_task(name, total=total, unit=unit, rate="", remark="")
        yield _Bar(self._bars, task)

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(line, markup=False, highlight=False)


class _Bar:
    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._started, self._done = time.monotonic(), 0

    def advance(self, units: int = 1) -> None:
        self._done += units
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        self._bars.update(self._task, advance=units, rate=f"{rate:,.1f}/s")

    def remark(self, text: str) -> None:
        self._bars.update(self._task, remark=text)


class PlainLines:
    """Says each stage's start, every thirty seconds where it is, and its end."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:
        """Open a stage."""
        return _PlainStage(name, total, unit)

    def note(self, line: str) -> None:
        """Print a line."""
        typer.echo(line, err=True)


class _PlainStage:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._done, self._started = 0, time.monotonic()
        self._said = self._started
        self._remark = ""

    def __enter__(self) -> Stage:
        typer.echo(f"{self._name}: {self._total:,} {self._unit}", err=True)
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._started
        typer.echo(f"{self._name}: {self._done:,} of {self._total:,} in {seconds:.1f} s", err=True)

    def advance(self, units: int = 1) -> None:
        self._done += units
        if time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            left = (self._said - self._started) / self._done * (self._total - self._done)
            where = f"{self._name}: {self._done:,} of {self._total:,} {self._unit}"
            rate = self._done / (self._said - self._started)
            speed = f", {rate:,.1f}/s" if rate >= 0.1 else ""  # a model takes minutes
            typer.echo(f"{where}{speed}, about {spoken(left)} left{self._remark}", err=True)

    def remark(self, text: str) -> None:
        self._remark = text and f", {text}"


def spoken(seconds: float) -> str:
    """A time as people say it: 50 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_json(value: object) -> None:
    """Print a value as indented JSON on stdout."""
    from embedcache.schema import plain

    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on stdout; numbers (columns whose name starts with `>`) right-aligned."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, title_style="bold")
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*row)
    # In a pipe nothing is cut: the table is as wide as its content.
    width = None if sys.stdout.isatty() else 200
    Console(width=width, highlight=False, markup=False).print(table)

"""`embedcache encoders`: which encoders there are, what each is, and how to get its weights."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json
from embedcache.cli.encoders_add import add
from embedcache.cli.encoders_convert import convert
from embedcache.cli.encoders_fetch import fetch
from embedcache.cli.encoders_validate import validate

if TYPE_CHECKING:
    from embedcache.encoders.catalogue import Broken, Listing, Weights
    from embedcache.encoders.described import Described, VariantLine

app = typer.Typer(
    no_args_is_help=True, help="Which encoders there are, what each is, how to get its weights."
)
app.command()(fetch)
app.command()(add)
app.command()(convert)
app.command()(validate)

Reference = Annotated[
    str, typer.Argument(metavar="NAME", help="NAME[@VARIANT][=WEIGHTS], as --encoder takes it.")
]

#: Columns of the list; the last are the first to give way on a narrow terminal.
COLUMNS = ("encoder", ">dim", ">input", ">params", "overlap", "weights", "licence", "domain")
CITATION = "citation"
_UNCITED = "not known"
_READY = {"here": "here", "unneeded": "none needed"}


@app.callback()
def _encoders() -> None:
    """Keep each verb a word of its own: Typer drops the name of a lone command."""


@app.command("list")
def list_encoders(json: Json = False) -> None:
    """List every encoder, what it was trained on, and whether its weights are here.

    Example: embedcache encoders list
    """
    from embedcache.cli.show import print_json
    from embedcache.encoders.catalogue import catalogue
    from embedcache.encoders.paper import NOTE, SEVEN

    listed, broken = catalogue()
    if json:
        paper = {"encoders": SEVEN, "note": NOTE}
        print_json({"encoders": listed, "broken": broken, "paper": paper})
        return
    _print_list(listed, broken)
    typer.echo(
        "overlap: whether its weights saw the public cohorts: yes; selection: they chose among\n"
        "checkpoints; not listed: among the published training sets; unknown: which is no “no”.\n"
        "Sources, variants and citation: embedcache encoders show NAME. timm:ARCH and\n"
        "open-clip:ARCH name any model of these libraries, FILE.py:FACTORY one of your own."
    )
    typer.echo(NOTE)


@app.command()
def show(name: Reference, json: Json = False) -> None:
    """Show all of one encoder: contract, variants, training sets, licence, sources.

    Example: embedcache encoders show usfm@cls
    """
    from embedcache.cli.show import print_json
    from embedcache.encoders.described import describe

    one = describe(name)
    if json:
        print_json(one)
        return
    _print_described(one)


def _print_list(listed: Sequence[Listing], broken: Sequence[Broken]) -> None:
    from embedcache.cli.show import print_table

    rows = [_row(one) for one in listed]
    columns = _fitting((*COLUMNS, CITATION), rows)
    print_table("Encoders", columns, [row[: len(columns)] for row in rows])
    for one in broken:
        typer.echo(f"{one.name} of the package {one.package} cannot be loaded: {one.problem}")


def _row(one: Listing) -> tuple[str, ...]:
    from embedcache.encoders.catalogue import gravest

    square = one.height == one.width
    return (
        one.name,
        str(one.dim),
        str(one.height) if square else f"{one.height}x{one.width}",
        f"{one.parameters / 1e6:,.1f}M" if one.parameters else "",
        "" if one.weights.state == "unneeded" else gravest(one.overlap),
        _weights_word(one.weights),
        one.licence.partition(";")[0] or _UNCITED,
        one.domain,
        ", ".join(one.citation.split(", ")[:2]).partition(":")[0],
    )


def _weights_word(weights: Weights) -> str:
    if weights.state != "missing":
        return _READY[weights.state]
    how = "give a file" if weights.how == "file" else weights.how
    return f"{how}, {_size(weights.size)}" if weights.size else how


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _fitting(columns: tuple[str, ...], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """As many columns as a terminal has room for; all of them in a pipe."""
    if not sys.stdout.isatty():
        return columns
    room = shutil.get_terminal_size().columns
    wide = [
        max(len(column.removeprefix(">")), *(len(row[place]) for row in rows)) + 2
        for place, column in enumerate(columns)
    ]
    fitting = [count for count in range(1, len(wide) + 1) if sum(wide[:count]) + count <= room]
    return columns[: max(fitting, default=1)]


def _print_described(one: Described) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    # Digests and addresses go on in the next line; they would end in dots otherwise.
    table.add_column(overflow="fold")
    for label, text in _lines(one):
        table.add_row(label, text)
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, markup=False)
    console.print(one.name, style="bold")
    console.print(table)
    if one.argued:
        console.print("\n" + "\n\n".join(map(_reflowed, one.argued.split("\n\n"))))


def _reflowed(paragraph: str) -> str:
    """A paragraph as one line, for the terminal to break; lists keep theirs."""
    lines = paragraph.splitlines()
    listed = any(line.startswith((" ", "- ", "* ", "|")) for line in lines)
    return paragraph if listed else " ".join(lines)


def _lines(one: Described) -> Iterator[tuple[str, str]]:
    yield "feature id", one.feature_id or "known once its weights are here"
    yield from _contract(one)
    for variant in one.variants:
        yield f"@{variant.name}", _variant(variant)
    random = one.contract.random_weights
    yield "weights", "RANDOM WEIGHTS: nobody trained them" if random else _weights(one.weights)
    for source in one.sources:
        size = f", {_size(source.size)}" if source.size else ""
        digest = f", sha256 {source.sha256}" if source.sha256 else ""
        yield "source", f"{source.place} {source.file}{size}{digest}"
    yield "parameters", f"{one.parameters:,}" if one.parameters else "not counted"
    yield "domain", one.domain or "none"
    yield "zero-shot", one.zero_shot
    yield "trained on", "; ".join(one.pretraining) or "not known"
    for seen in one.overlap:
        yield (
            f"saw {seen.cohort}",
            f"{seen.answer}: {seen.source} (read {seen.checked})"
            + (" — unknown is not no" if seen.answer == "unknown" else ""),
        )
    yield "licence", one.licence or _UNCITED
    yield "citation", one.citation or _UNCITED
    for note in one.notes:
        yield "note", note


def _contract(one: Described) -> Iterator[tuple[str, str]]:
    from embedcache.schema import plain

    content = plain(one.contract)
    preprocessing = content.pop("preprocessing")
    for key, value in {**content, **preprocessing}.items():
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f"  {key}", text


def _variant(variant: VariantLine) -> str:
    changed = ", ".join(f"{key} {value}" for key, value in variant.changes.items())
    about = f"{variant.about}; " if variant.about else ""
    return about + changed + (f"; feature id {variant.feature_id}" if variant.feature_id else "")


def _weights(weights: Weights) -> str:
    if weights.state == "here":
        size = f", {_size(weights.size)}" if weights.size else ""
        return f"here: {weights.file}{size}"
    return _READY.get(weights.state, "") or f"{weights.missing}; {weights.mend}"

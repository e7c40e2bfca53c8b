"""The part of docs/encoders.md that the registry knows: `python -m embedcache.encoders.page FILE`.

Tables alone are generated. What is argued stands in the families' own docstrings and is shown by
`embedcache encoders show`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from embedcache.encoders.catalogue import Listing, catalogue, ours
from embedcache.encoders.described import Described, describe_without_weights
from embedcache.encoders.paper import SEVEN
from embedcache.errors import PathMissingError

#: Between these lines the page is generated.
BEGIN, END = "<!-- generated from the registry -->", "<!-- end of what is generated -->"
#: What a cell holds where there is nothing to say.
NONE = "-"
_COHORTS = ("fetal-planes-db", "african-planes")
_HEAD = ("encoder", "dim", "input", "parameters", "domain", "licence", *_COHORTS, "weights")


def generated() -> str:
    """The tables, as Markdown: encoders that come with embedcache, their sources and variants."""
    listed = [one for one in catalogue()[0] if ours(one)]
    described = [describe_without_weights(one.name) for one in listed]
    pairs = list(zip(listed, described, strict=True))
    rows = [_row(listing, one) for listing, one in pairs]
    variants = [
        (f"`{one.name}@{variant.name}`", variant.about or NONE)
        for one in described
        for variant in one.variants
        if variant.name not in {"bf16", "fp16"}
    ]
    sources = [
        (f"`{one.name}`", seen.cohort, seen.answer, seen.source, seen.checked)
        for one in described
        for seen in one.overlap
    ]
    cited = [(f"`{one.name}`", one.citation or NONE) for one in described]
    parts = (
        _table(_HEAD, rows),
        "## Variants\n\n" + _table(("variant", "what it is"), variants),
        "## Who says what was seen\n\n"
        + _table(("encoder", "cohort", "answer", "source", "read on"), sources),
        "## Citations\n\n" + _table(("encoder", "cite"), cited),
    )
    return "\n\n".join(parts)


def rewritten(page: str) -> str:
    """A page with its generated part made anew.

    Raises:
        ValueError: if it does not say where that part stands.
    """
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{generated()}\n\n{END}{after}"


def _row(listing: Listing, one: Described) -> tuple[str, ...]:
    answers = {seen.cohort: seen.answer for seen in one.overlap}
    answer = NONE if listing.weights.state == "unneeded" else "unknown"
    size = f"{listing.height}" if listing.height == listing.width else "not square"
    name = f"**`{one.name}`**" if one.name in SEVEN else f"`{one.name}`"
    return (
        name,
        str(listing.dim),
        size,
        f"{one.parameters / 1e6:,.1f}M" if one.parameters else NONE,
        one.domain or NONE,
        one.licence or "not known",
        *(answers.get(cohort, answer) for cohort in _COHORTS),
        _weights(one),
    )


def _weights(one: Described) -> str:
    if not one.sources:
        return NONE
    first = one.sources[0]
    size = f", {first.size / 1e6:,.0f} MB" if first.size else ""
    if not first.place.startswith("https:"):
        return f"PyPI: {first.place}"
    return f"[{first.file}]({first.place}){size}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def main() -> None:
    """Rewrite the file named on the command line.

    Raises:
        PathMissingError: if there is no such file.
    """
    file = Path(sys.argv[1])
    if not file.is_file():
        raise PathMissingError("the page", file)
    file.write_text(rewritten(file.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()

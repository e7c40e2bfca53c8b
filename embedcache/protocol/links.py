"""Links: pairs of near-duplicate images, from a CSV of two digests a row."""

from __future__ import annotations

import re
from pathlib import Path

from embedcache.errors import LinkInvalidError, PathMissingError
from embedcache.protocol.clusters import Links
from embedcache.schema import read_csv_rows

_DIGEST = re.compile(r"[0-9a-f]{64}")


def read_links(file: Path) -> Links:
    """Read the pairs that `embedcache cohorts inspect --links` wrote, or anyone's.

    The first two columns are hex digests; further columns (a distance) are for people. A first
    row without any digest is a header.

    Returns:
        Each pair once, in order within and between pairs, so that equal sets of links are equal.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no CSV.
        LinkInvalidError: if a row holds no two digests.
    """
    if not file.is_file():
        raise PathMissingError("the links file", file)
    rows = [(number, row) for number, row in enumerate(read_csv_rows(file), start=1) if row]
    if rows and not any(is_digest(cell.strip().lower()) for cell in rows[0][1]):
        rows = rows[1:]
    pairs = set()
    for number, row in rows:
        pair = tuple(sorted(cell.strip().lower() for cell in row[:2]))
        if len(pair) != 2 or not all(is_digest(cell) for cell in pair):
            raise LinkInvalidError(where=f"{file.name} line {number}", found=",".join(row)[:200])
        pairs.add((pair[0], pair[1]))
    return tuple(sorted(pairs))


def is_digest(text: str) -> bool:
    """Whether a text is a sha256 in lower-case hex."""
    return _DIGEST.fullmatch(text) is not None

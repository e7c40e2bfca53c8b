"""What a published reference is: which encoder said what of which image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedcache.download import Remote
from embedcache.errors import PathMissingError
from embedcache.schema import parse_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What the authors published, a row an image, in the order of their table.

    Attributes:
        label: the authors' word for the true class, (n,).
        predicted: for the class that their model chose, (n,).
    """

    label: tuple[str, ...]
    predicted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationReference:
    """Zero-shot predictions that an encoder's authors published for a public cohort.

    Attributes:
        name: what it is called.
        encoder: the reference of the encoder that made them.
        citation: how to cite it.
        cohort: kind of the cohort's reader.
        words: the authors' word for each of the cohort's classes; rows of other classes are not in
            the reference.
        predictions: where their file of predictions lies.
        prompts: where their file of prompts lies.
        read: reads the file of predictions.
        read_prompts: reads the file of prompts: sentences by the authors' word; the order decides
            ties, and there may be more words than classes.
    """

    name: str
    encoder: str
    citation: str
    cohort: str
    words: Mapping[str, str]
    predictions: Remote
    prompts: Remote
    read: Callable[[Path], Published]
    read_prompts: Callable[[Path], dict[str, tuple[str, ...]]]


def read_json(file: Path) -> object:
    """Read a JSON file.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no JSON.
    """
    if not file.is_file():
        raise PathMissingError("the reference", file)
    return parse_json(file.read_bytes(), file.name)

"""Prompts: the words that stand for a class where nothing is trained."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from embedcache.errors import PromptsMissingError, PromptsUnknownClassError, SchemaError
from embedcache.schema import from_plain, read_toml

#: Where a template takes in a class's own words.
SLOT = "{}"
#: Our own prompts for fetal planes, beside this file.
DEFAULT = "fetal_planes.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompts:
    """Prompts by class, as a TOML file has them.

    Attributes:
        classes: a class's own words, one or more ways to say it.
        templates: sentences with one `{}` each; every prompt goes into every template.

    Raises:
        SchemaError: if a class has no words, or a template not one `{}`.
    """

    classes: dict[str, tuple[str, ...]]
    templates: tuple[str, ...] = (SLOT,)

    def __post_init__(self) -> None:
        _demand(len(self.classes) > 0, "classes", "names no class")
        for name, words in self.classes.items():
            sound = len(words) > 0 and all(word.strip() for word in words)
            _demand(sound, f"classes.{name}", "needs words: a class without any cannot be found")
        _demand(len(self.templates) > 0, "templates", "is empty; leave it away")
        for index, template in enumerate(self.templates):
            _demand(template.count(SLOT) == 1, f"templates[{index}]", f"needs one {SLOT}")

    def of(self, name: str) -> tuple[str, ...]:
        """All sentences of a class: each of its words in each template."""
        words = self.classes[name]
        return tuple(template.replace(SLOT, word) for template in self.templates for word in words)


def read_prompts(file: Path) -> Prompts:
    """Read prompts from a TOML file.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no TOML, or does not make prompts.
    """
    return read_toml(Prompts, file)


def default_prompts(known: Iterable[str]) -> Prompts:
    """Our own prompts for the six classes of FETAL_PLANES_DB, those that are known of them.

    Raises:
        PromptsMissingError: if not one is.
    """
    text = (files("embedcache.probing") / DEFAULT).read_text("utf-8")
    ours = from_plain(Prompts, tomllib.loads(text), where=DEFAULT)
    there = tuple(dict.fromkeys(known))
    kept = {name: words for name, words in ours.classes.items() if name in there}
    if not kept:
        raise PromptsMissingError(there, tuple(ours.classes))
    return replace(ours, classes=kept)


def check_prompts(prompts: Prompts, classes: Sequence[str], known: Iterable[str]) -> None:
    """Make sure that the judged classes have prompts, and that prompts are of known classes.

    Args:
        prompts: of classes.
        classes: that are judged.
        known: all classes of the cohorts, after merging, judged or not.

    Raises:
        PromptsMissingError: if a judged class has none.
        PromptsUnknownClassError: if prompts are of a class that no cohort has.
    """
    missing = tuple(name for name in classes if name not in prompts.classes)
    if missing:
        raise PromptsMissingError(missing, tuple(prompts.classes))
    there = tuple(dict.fromkeys(known))
    unknown = tuple(name for name in prompts.classes if name not in there)
    if unknown:
        raise PromptsUnknownClassError(unknown, there)


def _demand(holds: bool, path: str, problem: str) -> None:
    if not holds:
        raise SchemaError("the prompts", path, problem)

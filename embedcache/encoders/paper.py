"""`@paper`: the seven encoders of the study that embedcache was made to repeat.

The study's abstract names USFM, MOFO, UltraSAM, FetalCLIP, ResNet50, EfficientNet-V2 and DINOv3,
and leaves open which size of the last two and which weights of the last three it ran. `@paper`
takes `resnet50`, `efficientnet-v2-s` and `dinov3-b`, and `NOTE` says so wherever it stands for
them.
"""

from __future__ import annotations

from collections.abc import Iterable

from embedcache.errors import ReferenceSyntaxError

#: What the seven are asked for by.
WORD = "@paper"
SEVEN = ("usfm", "mofo", "ultrasam", "fetalclip", "resnet50", "efficientnet-v2-s", "dinov3-b")
NOTE = (
    f"{WORD} stands for {', '.join(SEVEN)}; the paper leaves open which sizes and weights of "
    "ResNet50, EfficientNet-V2 and DINOv3 it ran"
)


def names_paper(words: Iterable[str]) -> bool:
    """Whether some word stands for the seven, so that `NOTE` is due."""
    return any(_is_paper(word) for word in words)


def expand_paper(words: Iterable[str]) -> tuple[str, ...]:
    """Put the seven where `@paper` stands; its variants and `=random` go to each of them.

    Raises:
        ReferenceSyntaxError: if it is given weights of one encoder.
    """
    return tuple(name for word in words for name in (_seven(word) if _is_paper(word) else (word,)))


def _is_paper(word: str) -> bool:
    return word == WORD or word.startswith((f"{WORD}@", f"{WORD}="))


def _seven(word: str) -> tuple[str, ...]:
    rest = word.removeprefix(WORD)
    _, equals, weights = rest.partition("=")
    if equals and weights.partition(":")[0] != "random":
        grammar = f"{WORD}[@VARIANT…][=random], since no file holds the weights of seven encoders"
        raise ReferenceSyntaxError("group of encoders", word, grammar)
    return tuple(name + rest for name in SEVEN)

"""What an encoder is called on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from embedcache.encoders.reference import EncoderRef, parse_encoder
from embedcache.errors import ReferenceSyntaxError


@dataclass(frozen=True)
class Expect:
    """A case: what is given, and what it reads as."""

    id: str
    given: str
    then: EncoderRef


READS_AS = [
    Expect("a bare name", "usfm", EncoderRef("usfm")),
    Expect("variants add up", "usfm@cls@bf16", EncoderRef("usfm", ("cls", "bf16"))),
    Expect("variants may hold '+'", "dinov3-b@cls+mean", EncoderRef("dinov3-b", ("cls+mean",))),
    Expect("weights may hold '='", "usfm=/w/a=b.pth", EncoderRef("usfm", (), "/w/a=b.pth")),
    Expect("weights may hold '@'", "usfm@cls=a@b.pth", EncoderRef("usfm", ("cls",), "a@b.pth")),
    Expect("weights expand '~'", "usfm=~/w", EncoderRef("usfm", (), str(Path.home() / "w"))),
    Expect(
        "timm's tags follow a dot",
        "timm:vit_small_patch16_224.augreg_in21k@fp16",
        EncoderRef("timm:vit_small_patch16_224.augreg_in21k", ("fp16",)),
    ),
    Expect("random with a seed", "timm:x=random:3", EncoderRef("timm:x", (), "random:3")),
    Expect("capitals", "open-clip:ViT-B-32=openai", EncoderRef("open-clip:ViT-B-32", (), "openai")),
]


@pytest.mark.parametrize("case", READS_AS, ids=lambda case: case.id)
def test_an_encoder_reference_reads_as(case: Expect) -> None:
    assert parse_encoder(case.given) == case.then


@pytest.mark.parametrize("case", READS_AS, ids=lambda case: case.id)
def test_a_reference_survives_printing(case: Expect) -> None:
    assert parse_encoder(str(case.then)) == case.then


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=x",
        "usfm=",
        "usfm@",
        "@bf16",
        "usfm@bf16@bf16",
        "timm:",
        "timm:a/b",
        "my.py:make",
        "a b",
        "timm:x=random@bf16",
    ],
)
def test_what_is_no_reference_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"is no encoder; write NAME\[@VARIANT…\]"):
        parse_encoder(text)

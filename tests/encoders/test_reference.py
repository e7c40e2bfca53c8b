"""What an encoder is called on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from embedcache.encoders.paper import NOTE, SEVEN, names_paper
from embedcache.encoders.reference import EncoderRef, parse_encoder, parse_encoders
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
    Expect("a file's factory", "my.py:make", EncoderRef("my.py:make")),
    Expect("in a folder", "./a@b/my.py:make", EncoderRef("my.py:make", folder="./a@b/")),
    Expect("anywhere", "/a b/my.py:SPEC@cls", EncoderRef("my.py:SPEC", ("cls",), folder="/a b/")),
    Expect(
        "below '~', with weights that look like a file's factory",
        "~/e/my.py:make@bf16=w/a.py:b",
        EncoderRef("my.py:make", ("bf16",), "w/a.py:b", folder=f"{Path.home()}/e/"),
    ),
    Expect("weights are no folder", "usfm=/w/a.py:b", EncoderRef("usfm", (), "/w/a.py:b")),
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
        "my.py",
        "my.py=random",
        "my.py:",
        "my.py:1st",
        "my encoder.py:make",
        "dir/usfm",
        "a b",
        "timm:x=random@bf16",
    ],
)
def test_what_is_no_reference_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"is no encoder; write NAME\[@VARIANT…\]"):
        parse_encoder(text)


def test_a_factory_s_file_lies_where_its_folder_says() -> None:
    assert parse_encoder("/a/my.py:make@bf16").file == Path("/a/my.py")
    assert parse_encoder("my.py:make").file == Path("my.py")
    assert parse_encoder("timm:vit_base.py").file is None
    assert parse_encoder("usfm").file is None


def test_commas_and_repeats_both_list_encoders() -> None:
    names = [str(ref) for ref in parse_encoders(["usfm@cls, pixels", "mofo=w.pth"])]
    assert names == ["usfm@cls", "pixels", "mofo=w.pth"]


def test_the_paper_s_seven_have_one_word() -> None:
    assert SEVEN == (
        "usfm",
        "mofo",
        "ultrasam",
        "fetalclip",
        "resnet50",
        "efficientnet-v2-s",
        "dinov3-b",
    )
    assert [str(ref) for ref in parse_encoders(["pixels,@paper"])] == ["pixels", *SEVEN]
    assert [str(ref) for ref in parse_encoders(["@paper@bf16=random:2"])] == [
        f"{name}@bf16=random:2" for name in SEVEN
    ]


def test_the_word_for_the_seven_says_what_the_paper_leaves_open() -> None:
    assert names_paper(["pixels", "@paper@bf16"])
    assert not names_paper(["pixels", "@papers"])
    assert all(name in NOTE for name in SEVEN)
    assert "leaves open which sizes" in NOTE


def test_one_file_is_no_weights_for_seven_encoders() -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"@paper\[@VARIANT…\]\[=random\]"):
        parse_encoders(["@paper=w.pth"])

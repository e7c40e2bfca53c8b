"""Variants that go together, and variants of which one would undo the other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedcache.contract import Preprocessing
from embedcache.encoders.resolve import resolve
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.errors import ReferenceSyntaxError

USUAL = Preprocessing(height=64, width=64, mean=(0.5,) * 3, std=(0.5,) * 3, fit="long-side")


def padded_after(how: Preprocessing) -> Preprocessing:
    return replace(how, pad="after")


def halved(how: Preprocessing) -> Preprocessing:
    return replace(how, height=32, width=32)


SPEC = EncoderSpec(
    name="made-up",
    dim=2,
    architecture="made-up",
    preprocessing=USUAL,
    pooling="mean",
    build=lambda _: pytest.fail("nothing is built here"),
    variants={
        "after": Variant(preprocessing=padded_after),
        "half": Variant(preprocessing=halved, build=lambda _: pytest.fail("nor here")),
        "other": Variant(preprocessing=replace(USUAL, fit="squash")),
        "cls": Variant(pooling="cls"),
        "max": Variant(pooling="max"),
    },
)


def test_changes_of_the_encoder_s_preprocessing_add_up_in_any_order() -> None:
    both = replace(USUAL, pad="after", height=32, width=32)
    assert SPEC.varied("after").varied("half").preprocessing == both
    assert SPEC.varied("half").varied("after").preprocessing == both
    assert SPEC.contested(("after", "half", "cls")) == ()


@pytest.mark.parametrize("pair", [("cls", "max"), ("after", "other"), ("half", "other")])
def test_variants_that_undo_each_other_are_contested(pair: tuple[str, str]) -> None:
    assert SPEC.contested(("bf16", *pair)) == tuple(sorted(pair))


def test_a_reference_with_contested_variants_is_refused() -> None:
    with pytest.raises(ReferenceSyntaxError, match="@256 or @512, not both"):
        resolve("ultrasam@256@512=random")

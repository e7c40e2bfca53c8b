"""The feature id follows the contract, all of it, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from embedcache.contract import Contract, Preprocessing, shortest_references

PREPROCESSING = Preprocessing(height=224, width=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
CONTRACT = Contract(
    architecture="timm:test_vit",
    code="1",
    weights="sha256:" + "0" * 64,
    preprocessing=PREPROCESSING,
    pooling="avg",
    dim=64,
)

#: Canonical JSON of CONTRACT, written out by hand: it must never change, or every store is stale.
CANONICAL = (
    b'{"architecture":"timm:test_vit","code":"1","dim":64,"dtype":"float32","parent":null,'
    b'"pooling":"avg","precision":"fp32","preprocessing":{"colour":"rgb","crop":1.0,'
    b'"fit":"squash","height":224,"mean":[0.5,0.5,0.5],"resample":"bicubic",'
    b'"std":[0.5,0.5,0.5],"width":224},"version":1,"weights":"sha256:' + b"0" * 64 + b'"}'
)

CHANGES = [
    {"architecture": "timm:test_vit2"},
    {"code": "2"},
    {"weights": "sha256:" + "1" * 64},
    {"preprocessing": dataclasses.replace(PREPROCESSING, mean=(0.485, 0.456, 0.406))},
    {"preprocessing": dataclasses.replace(PREPROCESSING, resample="bilinear")},
    {"preprocessing": dataclasses.replace(PREPROCESSING, fit="pad-square")},
    {"preprocessing": dataclasses.replace(PREPROCESSING, standardise="picture")},
    {"preprocessing": dataclasses.replace(PREPROCESSING, pad="after")},
    {"pooling": "token"},
    {"dim": 65},
    {"precision": "bf16"},
    {"dtype": "float16"},
    {"parent": "0123456789abcdef"},
    {"version": 2},
]


def test_the_feature_id_is_the_hash_of_the_canonical_json() -> None:
    assert CONTRACT.feature_id == hashlib.sha256(CANONICAL).hexdigest()[:16]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_any_change_gives_another_feature_id(change: dict[str, object]) -> None:
    assert dataclasses.replace(CONTRACT, **change).feature_id != CONTRACT.feature_id


def test_every_field_of_the_contract_is_among_the_changes() -> None:
    assert {next(iter(change)) for change in CHANGES} == {
        field.name for field in dataclasses.fields(Contract)
    }


def test_only_seeded_weights_are_random() -> None:
    assert dataclasses.replace(CONTRACT, weights="random:0").random_weights
    assert not CONTRACT.random_weights
    assert not dataclasses.replace(CONTRACT, weights="none").random_weights


def test_features_that_share_a_name_are_called_by_their_ids_too() -> None:
    named = [("usfm", "aa"), ("mofo", "bb"), ("usfm", "cc")]
    assert shortest_references(named) == ("usfm#aa", "mofo", "usfm#cc")

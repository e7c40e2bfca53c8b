"""Cohorts read from files are judged as a store of them is: same images, clusters, folds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedcache import Protocol, extract, probe
from embedcache.encoders.resolve import resolve
from embedcache.errors import ProtocolDiffersError, UnknownNameError
from embedcache.finetuning.prepare import Prepared, check_beside, prepare
from embedcache.progress import Silent
from embedcache.results.layout import ResultsFolder
from embedcache.schema import plain

PROTOCOL = Protocol(train="home", external=("abroad",), folds=3)
ENCODER = "timm:test_resnet=random"


@pytest.fixture(scope="module")
def ward(make_ward, tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"), damaged=True)


@pytest.fixture(scope="module")
def probed(ward, tmp_path_factory) -> Path:
    """Results that a probe over a store of the same cohorts made."""
    folder = tmp_path_factory.mktemp("probed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBEDCACHE_KEY", "5e" * 32)
        extract(folder / "store.zarr", ward.cohorts, ["pixels"])
    probe(folder / "store.zarr", PROTOCOL, out=folder / "results", workers=1)
    return folder / "results"


def prepared(ward, protocol: Protocol = PROTOCOL, encoder: str = ENCODER) -> Prepared:
    return prepare(ward.cohorts, protocol, [resolve(encoder)], progress=Silent())


def test_the_record_is_a_probes_to_the_byte(ward, probed) -> None:
    ours = json.loads(json.dumps(plain(prepared(ward).record)))
    theirs = json.loads((probed / "protocol.json").read_text())
    del ours["provenance"], theirs["provenance"]
    assert ours == theirs
    assert all(len(cohort["sha256"]) == 64 for cohort in ours["cohorts"])


def test_rows_are_left_out_for_the_reasons_that_extraction_and_probing_give(ward) -> None:
    home, abroad = prepared(ward).record.cohorts
    assert home.left_out == {
        "failed: truncated": 1,
        "listed twice": 2,
        "two labels": 2,
        "unreadable: the file is empty": 1,
    }
    assert abroad.left_out["unreadable: the file is empty"] == 1
    assert abroad.left_out["two labels"] == 2
    assert sum(abroad.left_out.values()) > 4  # and what training has seen


def test_a_picture_without_contrast_is_left_out_where_each_is_standardised_by_its_own(ward) -> None:
    home, _ = prepared(ward, encoder="usfm@grey-z=random").record.cohorts
    assert home.left_out["failed: the encoder's output is not finite"] == 1


def test_results_of_a_probe_over_the_same_cohorts_are_joined(ward, probed) -> None:
    check_beside(ResultsFolder(probed), prepared(ward))


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        pytest.param(Protocol(train="home", folds=3), "external", id="external rows"),
        pytest.param(
            Protocol(train="home", external=("abroad",), folds=3, seed=1),
            "protocol.seed",
            id="folds",
        ),
        pytest.param(
            Protocol(train="home", external=("abroad",), folds=3, classes=("brain", "femur")),
            "classes",
            id="classes",
        ),
    ],
)
def test_results_of_another_protocol_are_refused_with_what_differs(
    ward, probed, protocol, said
) -> None:
    with pytest.raises(ProtocolDiffersError, match=said):
        check_beside(ResultsFolder(probed), prepared(ward, protocol))


def test_results_of_other_images_are_refused(make_ward, probed, tmp_path) -> None:
    other = make_ward(tmp_path, damaged=False)
    with pytest.raises(ProtocolDiffersError, match="folds_sha256"):
        check_beside(ResultsFolder(probed), prepared(other))


def test_a_cohort_that_is_not_given_is_named_with_those_that_are(ward) -> None:
    with pytest.raises(UnknownNameError, match="'spain'; choose one of home, abroad"):
        prepared(ward, Protocol(train="spain", external=("abroad",)))

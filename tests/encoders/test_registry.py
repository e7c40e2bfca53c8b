"""What is listed, and what is said of it, comes from the specifications alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from embedcache import registry
from embedcache.contract import NO_WEIGHTS
from embedcache.encoders.catalogue import ANSWERS, Weights, catalogue, gravest, ours, weights_here
from embedcache.encoders.described import NOT_YET, describe
from embedcache.encoders.named import registered
from embedcache.encoders.paper import SEVEN
from embedcache.encoders.resolve import contract_of
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec, Overlap
from embedcache.encoders.weights import HttpsFile
from embedcache.errors import UnknownNameError

#: The issue's list.
ASKED = {
    *SEVEN,
    *("resnet50-tv", "resnet50-tv2"),
    *(f"efficientnet-v2-{size}" for size in ("s-in1k", "rw-s", "m", "l")),
    *(f"dinov3-{size}" for size in ("s", "s-plus", "l", "h-plus")),
    *("mobile-fetalclip", "usf-mae", "ultrafedfm", "tinyusfm", "biomedclip", "dinov2"),
    *("urfm-b", "urfm-l", "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2"),
    "pixels",
}
SPECS = {name: registered(name) for name in registry.names("encoders")}
NETWORKS = {name: spec for name, spec in SPECS.items() if isinstance(spec, EncoderSpec)}


class ThirdParty(Distribution):
    """A distribution as pip would have installed it."""

    def read_text(self, filename: str) -> str | None:
        return "Metadata-Version: 2.1\nName: their-encoders\nVersion: 2.5\n"

    def locate_file(self, path):
        return Path(path)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch):
    """A function that offers an encoder as a third party's package would."""

    def offer(name: str, value: str) -> None:
        entry = EntryPoint(name, value, "embedcache.encoders")._for(ThirdParty())
        monkeypatch.setattr(registry, "entry_points", lambda **_: [entry])
        registry._entries.cache_clear()

    yield offer
    registry._entries.cache_clear()


def test_every_encoder_that_was_asked_for_is_listed() -> None:
    assert set(SPECS) >= ASKED


@pytest.mark.parametrize("name", SPECS)
def test_an_encoder_is_listed_under_its_own_name(name: str) -> None:
    assert SPECS[name].name == name


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_says_what_it_saw_and_under_which_licence(name: str) -> None:
    spec = NETWORKS[name]
    assert spec.domain
    assert spec.citation
    assert spec.licence
    assert spec.pretraining
    assert spec.parameters > 0
    assert {"fetal-planes-db", "african-planes"} <= {one.cohort for one in spec.overlap}
    assert all(one.source and one.checked.startswith("20") for one in spec.overlap)
    assert spec.sources
    assert all(variant.about for variant in spec.variants.values())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_variant_is_another_contract(name: str) -> None:
    one = describe(name)
    assert [variant.name for variant in one.variants] == [
        *NETWORKS[name].variants,
        "bf16",
        "fp16",
    ]
    assert all(variant.changes for variant in one.variants)
    assert len({str(variant.changes) for variant in one.variants}) == len(one.variants)
    assert one.argued.count("\n") > 2, "the module's docstring argues the default"


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from embedcache.encoders.catalogue import catalogue\n"
        "listed, broken = catalogue()\n"
        "print(len(listed) > 25, broken, {'torch', 'timm', 'open_clip'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True () set()\n"


def test_what_overlap_sources_say_is_what_was_read() -> None:
    # more-encoders.md, section 6: the two that are not "unknown" or "not listed".
    answers = {
        name: next(one.answer for one in spec.overlap if one.cohort == "fetal-planes-db")
        for name, spec in NETWORKS.items()
    }
    assert answers["usf-mae"] == "yes"
    assert answers["mobile-fetalclip"] == "selection"
    assert {answers[name] for name in ("mofo", "ultrasam", "resnet50")} == {"not listed"}
    assert {answers[name] for name in ("usfm", "dinov3-b", "biomedclip", "urfm-b")} == {"unknown"}


def test_the_gravest_answer_is_shown_and_silence_is_unknown() -> None:
    assert ANSWERS == ("yes", "selection", "unknown", "not listed")
    seen = [
        Overlap(cohort=answer, answer=answer, source="here", checked="2026-01-01")  # type: ignore[arg-type]  # all four
        for answer in ("not listed", "unknown", "selection", "yes")
    ]
    assert [gravest(tuple(seen[:count])) for count in range(5)] == [
        "unknown",
        "not listed",
        "unknown",
        "selection",
        "yes",
    ]


def test_weights_are_looked_for_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path))
    spec = registered("ultrasam")
    missing = weights_here(spec)
    assert (missing.state, missing.how) == ("missing", "fetch")
    assert "embedcache encoders fetch ultrasam" in missing.mend
    assert isinstance(spec, EncoderSpec)
    (source, *_) = spec.sources
    assert isinstance(source, HttpsFile)
    (tmp_path / "ultrasam").mkdir()
    (tmp_path / "ultrasam" / source.file).write_bytes(b"12345")
    assert weights_here(spec) == Weights(state="here", file=source.file, size=5)


def test_a_published_digest_gives_the_feature_id_before_the_file_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path))
    known, unknown = describe("fetalclip"), describe("usfm")
    # encoders.md, section 1
    digest = "90916caa408baf9374ee3f8c1533463331a4ace37a13e61385e782905b35c310"
    assert known.contract.weights == f"sha256:{digest}"
    assert known.feature_id == known.contract.feature_id
    assert unknown.contract.weights == NOT_YET
    assert unknown.feature_id == ""
    assert all(variant.feature_id == "" for variant in unknown.variants)


def test_what_is_here_is_described_by_its_own_contract() -> None:
    one = describe("efficientnet-lite0@bf16")
    assert one.contract == contract_of("efficientnet-lite0@bf16")
    (half,) = [variant for variant in one.variants if variant.name == "bf16"]
    assert half.feature_id == one.feature_id
    assert half.changes == {"precision": "bf16"}
    pixels = describe("pixels")
    assert pixels.contract.weights == NO_WEIGHTS
    assert pixels.variants == ()
    random = describe("timm:test_vit=random")
    assert random.overlap == ()
    assert random.contract == contract_of("timm:test_vit=random")


def test_an_encoder_file_is_described_by_what_it_holds(tmp_path: Path) -> None:
    from embedcache.encoders.convert import convert

    convert("efficientnet-lite0", tmp_path / "lite.safetensors")
    one = describe(f"{tmp_path}/lite.safetensors")
    assert one.contract == contract_of("efficientnet-lite0")
    assert one.feature_id == "533267f300ab5806"
    assert (one.weights.state, one.weights.file) == ("here", "lite.safetensors")
    assert [variant.name for variant in one.variants] == ["bf16", "fp16"]
    assert one.overlap == NETWORKS["efficientnet-lite0"].overlap


def test_a_name_that_is_mistyped_brings_those_that_are_close() -> None:
    with pytest.raises(UnknownNameError) as caught:
        registered("usmf")
    assert "usfm" in caught.value.found
    assert len(caught.value.found) < 10


def test_a_third_party_s_encoder_carries_its_distribution_and_version(installed) -> None:
    installed("theirs", "embedcache.encoders.families.pixels:SPEC")
    spec = registered("theirs")
    assert isinstance(spec, ArithmeticSpec)
    assert spec.code == "their-encoders 2.5"
    (listed,), broken = catalogue()
    assert listed.package == "their-encoders"
    assert not ours(listed)
    assert broken == ()


def test_a_package_that_cannot_be_loaded_hides_no_other(installed) -> None:
    installed("theirs", "their_encoders.absent:SPEC")
    listed, (broken,) = catalogue()
    assert listed == ()
    assert (broken.name, broken.package) == ("theirs", "their-encoders")
    assert "No module named 'their_encoders'" in broken.problem

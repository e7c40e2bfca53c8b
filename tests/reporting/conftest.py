"""Studies in memory: what a results folder would hold, small enough to reason about."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from embedcache.contract import Contract, Preprocessing
from embedcache.protocol.protocol import Protocol
from embedcache.provenance import Provenance
from embedcache.reporting.evidence import Confusion, Evidence
from embedcache.results.record import CohortRecord, Maker, Record
from embedcache.results.tables import ComparisonRow, MetricRow

CLASSES = ("abdomen", "brain", "femur", "thorax")
HALF = 0.02
#: macro-F1 at home and abroad
VALUES: dict[str, tuple[float, float]] = {
    "first": (0.93, 0.71),
    "second": (0.92, 0.65),
    "third": (0.85, 0.66),
    "pixels": (0.60, 0.41),
}
#: images and patient clusters of the external sites
SITES: dict[str, tuple[int, int]] = {"Ghana": (100, 40), "Malawi": (90, 37), "Togo": (8, 6)}

Study = Callable[..., Evidence]


def provenance() -> Provenance:
    return Provenance(
        when="2026-01-02T03:04:05+00:00",
        python="3.11.9",
        packages={"embedcache-bench": "0.1.0", "numpy": "2.4.0"},
        system="Linux x86_64",
    )


def cohort(name: str, **changes: object) -> CohortRecord:
    made = CohortRecord(
        name=name,
        reader="folder",
        citation=f"doi:10.1/{name}",
        licence="CC-BY-4.0",
        synthetic=False,
        rows=210,
        images=200,
        patients=83,
        clusters=83,
        strata=("site",),
        left_out={},
    )
    return replace(made, **changes)


def maker(encoder: str, weights: str = "sha256:" + "ab" * 32, arm: str = "linear-probe") -> Maker:
    step = Preprocessing(height=224, width=224, mean=(0.5,) * 3, std=(0.5,) * 3)
    contract = Contract(
        architecture=f"timm:{encoder}",
        code="1",
        weights="none" if encoder == "pixels" else weights,
        preprocessing=step,
        pooling="mean",
        dim=1280,
    )
    return Maker(
        encoder=encoder,
        arm=arm,
        feature_id=contract.feature_id,
        contract=contract,
        licence="Apache-2.0",
        citation=f"{encoder} et al. 2024",
        extraction=provenance(),
    )


def metric(encoder: str, cohort: str, value: float | None, **changes: object) -> MetricRow:
    made = MetricRow(
        arm="linear-probe",
        encoder=encoder,
        cohort=cohort,
        estimand="oof" if cohort == "home" else "external-folds",
        class_rule="restricted",
        metric="macro-f1",
        value=value,
        low=None if value is None else value - HALF,
        high=None if value is None else value + HALF,
        images=200,
        clusters=83,
        df=80.0,
    )
    return replace(made, **changes)


def pair(encoder: str, other: str, cohort: str, value: float, p: float) -> ComparisonRow:
    return ComparisonRow(
        kind="pair",
        arm="linear-probe",
        other_arm="linear-probe",
        encoder=encoder,
        other=other,
        cohort=cohort,
        estimand="oof" if cohort == "home" else "external-folds",
        class_rule="restricted",
        metric="macro-f1",
        value=value,
        low=value - HALF,
        high=value + HALF,
        clusters=83,
        df=80.0,
        p=p / 2,
        p_holm=p,
    )


def _metrics(
    values: Mapping[str, tuple[float, float]], places: Sequence[str], sites: bool
) -> list[MetricRow]:
    rows = []
    for encoder, both in values.items():
        for place in places:
            value = both[place != "home"]
            rows.append(metric(encoder, place, value))
            rows += [metric(encoder, place, value - 0.01, metric="f1", class_=c) for c in CLASSES]
            if place != "home" and sites:
                for drop, (site, (images, clusters)) in enumerate(SITES.items()):
                    stratum = {"images": images, "clusters": clusters, "stratum": f"site={site}"}
                    rows.append(metric(encoder, place, value - 0.05 * drop, **stratum))
    return rows


def confusion(encoder: str, place: str, patients: Sequence[int]) -> Confusion:
    counts = np.full((4, 4), 2, np.int64) + np.diag([44] * 4)
    return Confusion(
        arm="linear-probe",
        encoder=encoder,
        cohort=place,
        counts=counts,
        images=np.full(4, 50, np.int64),
        clusters=np.array(patients, np.int64),
    )


def _pairs(
    values: Mapping[str, tuple[float, float]],
    places: Sequence[str],
    p: Mapping[frozenset[str], float],
) -> list[ComparisonRow]:
    names = sorted(values)
    return [
        pair(
            a,
            b,
            place,
            values[a][place != "home"] - values[b][place != "home"],
            p.get(frozenset((a, b, place)), 0.001),
        )
        for place in places
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]


def _ranks(
    values: Mapping[str, tuple[float, float]],
    places: Sequence[str],
    p: Mapping[frozenset[str], float],
) -> list[ComparisonRow]:
    """Each encoder's rank: how many are better, or worse, with p below .05."""
    rows = []
    for place in places if len(values) > 1 else ():
        level = {name: both[place != "home"] for name, both in values.items()}
        for name in sorted(values):
            told = [o for o in values if p.get(frozenset((name, o, place)), 0.001) < 0.05]
            better = sum(level[o] > level[name] for o in told if o != name)
            worse = sum(level[o] < level[name] for o in told if o != name)
            rows.append(
                replace(
                    pair(name, "", place, level[name], 0.5),
                    kind="rank",
                    p=None,
                    p_holm=None,
                    low=None,
                    high=None,
                    rank_low=1 + better,
                    rank_high=len(values) - worse,
                    may_be_best=not better,
                    p_best=0.5,
                )
            )
    return rows


def _gaps(values: Mapping[str, tuple[float, float]], abroad: Sequence[str]) -> list[ComparisonRow]:
    """Home minus abroad; balanced accuracy loses a point less, reweighted macro-F1 two."""
    metrics = {"balanced-accuracy": 0.01, "macro-f1": 0.0, "macro-f1-reweighted": 0.02}
    return [
        replace(
            pair(name, "", place, home - away - less, 0.5),
            kind="gap",
            metric=metric_,
            p=None,
            p_holm=None,
        )
        for place in abroad
        for name, (home, away) in sorted(values.items())
        for metric_, less in metrics.items()
    ]


@pytest.fixture(scope="session")
def study() -> Study:
    """Build evidence: three encoders and the floor, at home and abroad, unless told otherwise.

    `p` gives adjusted p-values by {encoder, encoder, cohort}; all others are .001.
    """

    def build(
        values: Mapping[str, tuple[float, float]] = VALUES,
        abroad: Sequence[str] = ("abroad",),
        weights: Mapping[str, str] = {},
        p: Mapping[frozenset[str], float] = {},
        patients: Sequence[int] = (40, 41, 42, 43),
        changes: Mapping[str, Mapping[str, object]] = {},
        sites: bool = True,
    ) -> Evidence:
        places = ("home", *abroad)
        makers = [
            maker(name, **({"weights": weights[name]} if name in weights else {}))
            for name in sorted(values)
        ]
        return Evidence(
            record=Record(
                protocol=Protocol(train="home", external=tuple(abroad)),
                classes=CLASSES,
                folds_sha256="cd" * 32,
                cohorts=tuple(cohort(name, **changes.get(name, {})) for name in places),
                provenance=provenance(),
            ),
            makers=tuple(makers),
            metrics=tuple(_metrics(values, places, sites)),
            comparisons=(
                *_pairs(values, places, p),
                *_ranks(values, places, p),
                *_gaps(values, abroad),
            ),
            confusions=tuple(
                confusion(name, place, patients) for name in sorted(values) for place in places
            ),
            sites={name: len(SITES) for name in abroad},
        )

    return build


@dataclass
class Page(HTMLParser):
    """A parsed page: every start tag with its attributes, and the text that people read."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._silent += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text = " ".join([*self.text.split(), *data.split()])

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [a for t, a in self.tags if t == tag and wanted.items() <= a.items()]


@pytest.fixture(scope="session")
def parsed() -> Callable[[str], Page]:
    def parse(html: str) -> Page:
        page = Page()
        page.feed(html)
        page.close()
        return page

    return parse


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prediction table as a stranger would bring it: 2 encoders, 3 folds, 2 cohorts."""
    random = np.random.default_rng(5)
    file = tmp_path_factory.mktemp("table") / "predictions.csv"
    lines = ["image,patient,label,encoder,cohort,fold,probability:no,probability:yes,stratum:site"]
    for place, patients in {"home": 36, "abroad": 30}.items():
        for encoder, skill in {"good": 0.35, "pixels": 0.1}.items():
            for fold in range(3):
                for image in range(2 * patients):
                    patient, label = image // 2, image % 2
                    if place == "home" and patient % 3 != fold:
                        continue
                    yes = np.clip(
                        0.5 + (skill if label else -skill) + random.normal(0, 0.3), 0.01, 0.99
                    )
                    site = ("north", "south")[patient % 2]
                    lines.append(
                        f"{place}-{image},{place}{patient},{('no', 'yes')[label]},{encoder},"
                        f"{place},{fold},{float(1 - yes)!r},{float(yes)!r},{site}"
                    )
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture(scope="session")
def evaluated(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of that table, for all tests; evaluated once."""
    from embedcache.evaluation.foreign import evaluate_table

    folder = tmp_path_factory.mktemp("evaluated") / "results"
    evaluate_table(table, folder)
    return folder


@pytest.fixture
def results(evaluated: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(evaluated, tmp_path / "results"))

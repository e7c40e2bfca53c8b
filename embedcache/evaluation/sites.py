"""Worst site and range over sites: how much a cohort's single number hides.

The range of estimates is wider than that of the truths, the more so the smaller the sites: it has
no interval. Sites of fewer than ten patient clusters take no part and are named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.families import given
from embedcache.evaluation.intervals import POINT
from embedcache.evaluation.sample import leave_one_out, sample
from embedcache.metrics.metric import Metric
from embedcache.results.tables import ComparisonRow

#: Patient clusters that a site needs to take part.
FEW = 10


def site_rows(group: Sequence[Evaluand], metric: Metric) -> Iterator[ComparisonRow]:
    """Best minus worst site of each encoder, both named in the note; none with one site."""
    for evaluand in group:
        sites = evaluand.strata.get("site")
        if sites is None:
            continue
        values, clusters = _values(evaluand, sites, metric)
        large = [name for name in values if clusters[name] >= FEW and not np.isnan(values[name])]
        if len(large) > 1:
            yield _row(evaluand, metric, values, clusters, large)


def _values(
    evaluand: Evaluand, sites: np.ndarray, metric: Metric
) -> tuple[dict[str, float], dict[str, int]]:
    whole = dataclasses.replace(evaluand, site=np.full_like(evaluand.site, ""))
    values, clusters = {}, {}
    for name in np.unique(sites).tolist():
        drawn = sample(whole, sites == name)
        values[name] = given(leave_one_out(metric, drawn)).value
        clusters[name] = len(drawn.site)
    return values, clusters


def _row(
    evaluand: Evaluand,
    metric: Metric,
    values: dict[str, float],
    clusters: dict[str, int],
    large: Sequence[str],
) -> ComparisonRow:
    rising = sorted(large, key=lambda name: (values[name], name))
    worst, best = rising[0], rising[-1]
    if metric.better == "lower":
        worst, best = best, worst
    small = [name for name in values if clusters[name] < FEW]
    undefined = [name for name in values if name not in large and name not in small]
    notes = [
        *evaluand.notes,
        *(
            f"{word} site {name}: {values[name]:.4f} of {clusters[name]} patient clusters"
            for word, name in (("worst", worst), ("best", best))
        ),
        f"fewer than {FEW} patient clusters: {', '.join(small)}" if small else "",
        f"no value: {', '.join(undefined)}" if undefined else "",
    ]
    return ComparisonRow(
        kind="sites",
        arm=evaluand.arm,
        other_arm=evaluand.arm,
        encoder=evaluand.encoder,
        other="",
        cohort=evaluand.cohort,
        estimand=evaluand.estimand,
        class_rule=evaluand.class_rule,
        metric=metric.name,
        value=values[best] - values[worst],
        method=POINT,
        clusters=sum(clusters[name] for name in large),
        note="; ".join(note for note in notes if note),
    )

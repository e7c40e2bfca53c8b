"""Both arms on the real cohorts: efficientnet-lite0, four planes, two folds, one report.

A linear probe on frozen features and fine-tuning of the whole network judge the same images in the
same folds; the paired difference says which is ahead, at home and abroad. The study's authors found
fine-tuning ahead at home.

    python benchmarks/finetune.py [--epochs 5 --batch-size 16 --lr 3e-4]
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from record import COHORTS, record

from embedcache import Protocol, compare, evaluate, extract, finetune, probe, report
from embedcache.cli.show import PlainLines
from embedcache.finetuning.plan import FULL
from embedcache.finetuning.recipe import Recipe
from embedcache.results.curves_file import read_curves
from embedcache.results.layout import ResultsFolder
from embedcache.results.tables import ComparisonRow, MetricRow
from embedcache.schema import plain

ENCODER = "efficientnet-lite0"
PLACES = (
    f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
    f"africa=african-planes:{COHORTS / 'african_planes'}",
)
PROTOCOL = Protocol(train="spain", external=("africa",), folds=2)
SHOWN = ("value", "low", "high", "images", "clusters")


def main() -> None:
    """Run both arms, compare, record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-4])
    parser.add_argument("--out", type=Path, help="keep the results here")
    asked = parser.parse_args()
    os.environ.setdefault("EMBEDCACHE_KEY", "5e" * 32)
    with tempfile.TemporaryDirectory() as scratch:
        figures = both_arms(Path(scratch), asked.out or Path(scratch) / "results", asked)
    record("finetune", figures)


def both_arms(scratch: Path, out: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """Probe and tune into one folder, and read what comes of it."""
    seconds = {}
    started, busy = time.monotonic(), cpu_seconds()
    extract(scratch / "store.zarr", PLACES, [ENCODER], progress=PlainLines())
    probe(scratch / "store.zarr", PROTOCOL, out=out, progress=PlainLines())
    seconds["probe"] = elapsed(started, busy)
    started, busy = time.monotonic(), cpu_seconds()
    recipe = Recipe(epochs=asked.epochs, batch=asked.batch_size)
    how = replace(FULL, recipe=recipe, rates=tuple(asked.lr))
    finetune(PLACES, [ENCODER], PROTOCOL, out=out, asked=how, progress=PlainLines())
    seconds["finetune"] = elapsed(started, busy)
    started, busy = time.monotonic(), cpu_seconds()
    values = evaluate(out)
    pairs = compare([out])
    page = report([out], out=scratch / "report.html")
    seconds["report"] = elapsed(started, busy)
    return {
        "encoder": ENCODER,
        "protocol": plain(PROTOCOL),
        "recipe": plain(recipe),
        "rates": asked.lr,
        "seconds": seconds,
        "cpu_seconds_of_20_minutes_on_2_cores": 2400,
        "macro_f1": [shown(row) for row in values if is_headline(row)],
        "fine_tuning_minus_probe": [paired(row) for row in pairs if row.kind == "pair"],
        "curves": [
            {
                "fold": curve.rows[0].fold,
                "validation_loss": [round(row.validation_loss, 4) for row in curve.rows],
                "validation_macro_f1": [round(row.macro_f1, 4) for row in curve.rows],
                "loss": [round(row.loss, 4) for row in curve.rows],
            }
            for curve in read_curves(ResultsFolder(out))
        ],
        "report_bytes": page.stat().st_size,
    }


def is_headline(row: MetricRow) -> bool:
    """Macro-F1 over all images, by the fold models."""
    overall = row.metric == "macro-f1" and row.level == "image" and not row.stratum
    return overall and row.estimand in {"oof", "external-folds"}


def shown(row: MetricRow) -> dict[str, Any]:
    """One value with its interval."""
    return {
        "arm": row.arm,
        "cohort": row.cohort,
        "estimand": row.estimand,
        "class_rule": row.class_rule,
        **{name: getattr(row, name) for name in SHOWN},
    }


def paired(row: ComparisonRow) -> dict[str, Any]:
    """A difference, turned so that it is fine-tuning minus the probe."""
    sign = 1 if row.arm == "fine-tune" else -1
    ends = sorted(sign * end for end in (row.low, row.high) if end is not None)
    return {
        "cohort": row.cohort,
        "estimand": row.estimand,
        "value": None if row.value is None else sign * row.value,
        "low": ends[0] if ends else None,
        "high": ends[-1] if ends else None,
        "p": row.p,
    }


def cpu_seconds() -> float:
    """Of this process and those it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def elapsed(started: float, busy: float) -> dict[str, float]:
    """Seconds by the wall and by the processor: others load the cores."""
    return {
        "wall": round(time.monotonic() - started, 1),
        "cpu": round(cpu_seconds() - busy, 1),
    }


if __name__ == "__main__":
    main()

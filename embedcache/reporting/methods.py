"""Text to paste into a paper: the methods in the study's own numbers, and whom to cite."""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.contract import NO_WEIGHTS, Preprocessing
from embedcache.protocol.protocol import Protocol, how_tested
from embedcache.reporting.evidence import Evidence, home_and_abroad, is_floor
from embedcache.reporting.numbers import TIMES, adjustment, count, joined
from embedcache.results.record import CohortRecord, Maker

#: How each arm is described; any other is named and no more.
ARMS = {
    "linear-probe": "a linear probe (standardised features, multinomial logistic regression)",
    "zero-shot": "zero-shot classification with prompt ensembles",
    "fine-tune": "the whole encoder with a linear head",
    "tune-head": "a linear head on the frozen encoder, learnt from augmented images",
    "lora": "low-rank adapters in the encoder with a linear head",
}
#: Of these, what trains networks on pictures.
TUNED = frozenset({"fine-tune", "tune-head", "lora"})


def methods(evidence: Evidence) -> tuple[str, ...]:
    """Describe what was done, in sentences that hold for these results and no others."""
    return tuple(
        text
        for text in (
            _features(evidence),
            _fitting(evidence),
            _abroad(evidence),
            _statistics(evidence),
            _software(evidence),
        )
        if text
    )


def _features(evidence: Evidence) -> str:
    models = {
        maker.encoder: maker
        for maker in evidence.makers
        if not is_floor(maker) and maker.arm not in TUNED
    }
    known = [maker for maker in models.values() if maker.contract is not None]
    if not known:
        return ""
    precision = joined(sorted({m.contract.precision for m in known if m.contract is not None}))
    floor = any(is_floor(maker) for maker in evidence.makers)
    beside = f"; 16 {TIMES} 16 grey thumbnails served as the floor" if floor else ""
    return (
        f"Each image was passed once through {count(len(known), 'frozen encoder')} "
        f"({joined(sorted(models), most=8)}; {precision}), and the pooled features were kept"
        f"{beside}."
    )


def _fitting(evidence: Evidence) -> str:
    home, _ = home_and_abroad(evidence)
    protocol = evidence.record.protocol
    used = sorted({maker.arm for maker in evidence.makers})
    arms = joined([ARMS.get(arm, f"arm “{arm}”") for arm in used])
    if protocol is None:
        return "Predictions were made elsewhere and taken as they are."
    if home is None:
        return ""
    return (
        f"{arms[0].upper()}{arms[1:]} {'was' if len(used) == 1 else 'were'} trained on "
        f"{_described(evidence, home)} "
        f"for {count(len(evidence.record.classes), 'class', 'classes')} "
        f"({joined(evidence.record.classes, most=12)}) and tested by "
        f"{how_tested(protocol)}.{_tuning(protocol, used)}"
    )


def _tuning(protocol: Protocol, arms: Sequence[str]) -> str:
    """How settings were chosen inside each training set, a sentence for each kind of arm."""
    tuning, text = protocol.tuning, ""
    if not TUNED.issuperset(arms):
        text += (
            f" The inverse penalty C was chosen among {len(tuning.grid)} values "
            f"({tuning.grid[0]:g} to {tuning.grid[-1]:g}) by pooled log loss over "
            f"{tuning.inner_folds} inner patient folds of each training set."
        )
    if TUNED.intersection(arms):
        text += (
            " Networks were trained on four fifths of the patients of each training set; the loss "
            "on the others said when to stop and, in the first fold, which learning rate to take."
        )
    return text


def _abroad(evidence: Evidence) -> str:
    home, abroad = home_and_abroad(evidence)
    if not abroad:
        return ""
    places = joined([_described(evidence, cohort) for cohort in abroad])
    folds = any(row.estimand == "external-folds" for row in evidence.metrics)
    if home is None or not folds:
        return f"Tested on {places}."
    return (
        f"The model of each fold was applied, unchanged, to {places}; "
        f"the confusion counts of the fold models were summed."
    )


def _described(evidence: Evidence, cohort: CohortRecord) -> str:
    sites = evidence.sites.get(cohort.name, 0)
    where = f", {count(sites, 'site')}" if sites else ""
    drawn = ", SYNTHETIC" if cohort.synthetic else ""
    return (
        f"{cohort.name} ({count(cohort.images, 'image')} of "
        f"{count(cohort.patients, 'patient')}{where}{drawn})"
    )


def _statistics(evidence: Evidence) -> str:
    text = (
        "Macro-F1 is the mean over the classes that occur. Intervals are 95 % intervals by the "
        "jackknife over patient clusters, stratified by site, on the logit scale with Student's t; "
        "they hold for the fitted models and new patients of the same population, not for a new "
        "site."
    )
    pairs = [row for row in evidence.comparisons if row.kind == "pair"]
    if pairs:
        text += (
            " Encoders were compared on the same images by paired differences and a two-sided "
            f"cluster-swap permutation test (p {adjustment(pairs)})."
        )
    if any(row.kind == "rank" for row in evidence.comparisons):
        text += " An encoder may be best where none of its arm is significantly better."
    if any(row.kind == "gap" for row in evidence.comparisons):
        text += (
            " The cost of moving is the difference of out-of-fold and external values of the same "
            "fold models on shared classes; the variances of the two cohorts were added."
        )
    return text


def _software(evidence: Evidence) -> str:
    version = evidence.record.provenance.packages.get("embedcache-bench", "")
    return f"Computed with embedcache {version}".rstrip() + "."


def citations(evidence: Evidence) -> tuple[str, ...]:
    """List what to cite: cohorts first, then encoders, each once."""
    cohorts = [(cohort.name, cohort.citation) for cohort in evidence.record.cohorts]
    encoders = [(maker.encoder, maker.citation) for maker in evidence.makers]
    lines = [f"{name}: {citation}" for name, citation in cohorts + encoders if citation]
    return tuple(dict.fromkeys(lines))


def weights_of(maker: Maker) -> str:
    """Say which weights an encoder ran with."""
    if maker.contract is None:
        return "not recorded"
    if maker.contract.random_weights:
        return f"RANDOM WEIGHTS ({maker.contract.weights})"
    return "needs none" if maker.contract.weights == NO_WEIGHTS else maker.contract.weights


def preprocessing_of(step: Preprocessing) -> str:
    """Describe a preprocessing in one line."""
    crop = f", crop {step.crop:g}" if step.fit == "centre-crop" else ""
    pad = ", padded after normalising" if step.pad == "after" else ""
    return (
        f"{step.fit} to {step.height} {TIMES} {step.width}{crop}, {step.resample}, {step.colour}, "
        f"{_standardised(step)}{pad}"
    )


def _standardised(step: Preprocessing) -> str:
    if step.standardise == "picture":
        return "each picture by its own mean and std"
    mean = ", ".join(f"{value:g}" for value in step.mean)
    std = ", ".join(f"{value:g}" for value in step.std)
    return f"mean {mean}, std {std}"

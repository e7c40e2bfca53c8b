"""The verb `probe`: fit probes on cached features, and write their predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedcache import registry
from embedcache.durable import clear_partial
from embedcache.errors import OtherUnitsError
from embedcache.executor import cores, run_units
from embedcache.probing.near_duplicates import write_near_duplicates
from embedcache.probing.prepare import Prepared, prepare, references
from embedcache.probing.units import Outcome, Unit, do_units, is_done, units_of
from embedcache.progress import Progress, Silent
from embedcache.protocol.protocol import Protocol
from embedcache.results.folds_file import write_folds
from embedcache.results.layout import ResultsFolder, folder_name, write_record
from embedcache.store.reader import FeatureStore, open_store

#: Seconds after which a half-written file is a killed run's: the largest takes a second or two.
ABANDONED = 3600.0
#: Numbers in all feature matrices that are to be fitted, above which worker processes repay the
#: two seconds that each takes to start (a million numbers take about one).
_WORTH_PROCESSES = 8_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """What a probing would do.

    Attributes:
        prepared: images, folds and encoders.
        units: all of each encoder's.
        missing: units to be done.
        found: how many units the results hold already.
    """

    prepared: Prepared
    units: tuple[Unit, ...]
    missing: tuple[Unit, ...]
    found: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """What a probing did.

    Attributes:
        encoders: references of the encoders.
        done: units done now.
        found: units that were there already.
        notes: what a person should know, one sentence each.
    """

    encoders: tuple[str, ...]
    done: int
    found: int
    notes: tuple[str, ...]


def probe(
    store: Path | FeatureStore,
    protocol: Protocol,
    *,
    out: Path,
    encoders: Sequence[str] = (),
    estimator: str = "linear-probe",
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Probed:
    """Fit probes over patient-cluster folds and predict every cohort of the protocol.

    A unit that the results hold already is not done again: a rerun does nothing, and a killed run
    goes on from where it stopped.

    Args:
        store: a feature store, or its path.
        protocol: how models are judged.
        out: the results folder.
        encoders: references; none: every encoder that has seen all images.
        estimator: how to learn.
        workers: processes; None: as many as pay.
        scheduler: where Dask fits instead, `ADDRESS` or `local:N`; its workers see the same disk.
        progress: hears of stages and notes.

    Raises:
        ProtocolDiffersError: if the results folder was made under another protocol.
        OtherUnitsError: if it holds predictions that were made from other features.
        BadInputError: as `prepare`.
        FailedWorkError: if a unit failed; the others are done.
    """
    progress = progress or Silent()
    plan = plan_probe(store, protocol, out=out, encoders=encoders, estimator=estimator)
    for note in plan.prepared.notes:
        progress.note(note)
    settle(ResultsFolder(out), plan.prepared)
    clear_partial(out, idle=ABANDONED)
    outcomes = _run(plan, estimator, workers, scheduler, progress)
    notes = (*_summary(plan), *_gathered(outcomes))
    for note in notes:
        progress.note(note)
    return Probed(
        encoders=tuple(plan.prepared.encoders),
        done=len(plan.missing),
        found=plan.found,
        notes=(*plan.prepared.notes, *notes),
    )


def plan_probe(
    store: Path | FeatureStore,
    protocol: Protocol,
    *,
    out: Path,
    encoders: Sequence[str] = (),
    estimator: str = "linear-probe",
) -> Plan:
    """Say what `probe` would do, and write nothing; raises as it does."""
    registry.load("estimators", estimator)
    opened = open_store(store) if isinstance(store, Path) else store
    folder = ResultsFolder(out)
    prepared = prepare_beside(opened, protocol, encoders, folder)
    units = tuple(
        unit
        for encoder in prepared.encoders
        for unit in _checked(folder, units_of(opened, prepared, estimator, encoder, out))
    )
    missing = tuple(unit for unit in units if not is_done(unit))
    return Plan(prepared=prepared, units=units, missing=missing, found=len(units) - len(missing))


def prepare_beside(
    store: FeatureStore, protocol: Protocol, encoders: Sequence[str], folder: ResultsFolder
) -> Prepared:
    """Prepare what is to stand beside a folder's predictions; writes nothing.

    Raises:
        ProtocolDiffersError: if the folder was made under another protocol.
        BadInputError: as `prepare`.
    """
    prepared = prepare(store, protocol, encoders, _earlier_encoders(store, folder))
    if folder.protocol_file.is_file():
        write_record(folder, prepared.record)  # a folder that has one is only compared
    return prepared


def settle(folder: ResultsFolder, prepared: Prepared) -> None:
    """Write what all units of a folder rest on: protocol, folds, near-duplicates."""
    write_record(folder, prepared.record)
    if not folder.folds_file.is_file():
        write_folds(folder, prepared.folds)
    if prepared.near_duplicates:
        write_near_duplicates(folder.near_duplicates_file, prepared.near_duplicates)


def _earlier_encoders(store: FeatureStore, folder: ResultsFolder) -> tuple[str, ...]:
    """Name the store's encoders that the results hold predictions of, in any arm."""
    held = {file.parent.name for file in folder.prediction_files()}
    return tuple(name for name in references(store) if folder_name(name) in held)


def _checked(folder: ResultsFolder, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Refuse to put an encoder's predictions beside others of its own.

    Raises:
        OtherUnitsError: if the folder holds units that are not among these.
    """
    first = units[0]
    names = {unit.name for unit in units}
    held = {file.stem for file in first.predictions_file.parent.glob("*.parquet")}
    if not held <= names:
        raise OtherUnitsError(folder.path, first.estimator, folder_name(first.encoder))
    return units


def _run(
    plan: Plan, estimator: str, workers: int | None, scheduler: str | None, progress: Progress
) -> list[Outcome]:
    if not plan.missing:
        return []
    unfinished = {unit.encoder for unit in plan.missing}
    batches = [
        tuple(unit for unit in plan.units if unit.encoder == encoder)
        for encoder in plan.prepared.encoders
        if encoder in unfinished
    ]
    numbers = sum(
        len(unit.train.row) * unit.features.contract.dim for batch in batches for unit in batch
    )
    number = workers or worthwhile_workers(numbers, len(batches))
    outcomes: list[Outcome] = []
    with progress.stage(f"fitting {estimator}", len(plan.missing), "models") as stage:
        for written in run_units(do_units, batches, workers=number, scheduler=scheduler):
            stage.advance(len(written))
            outcomes += written
    return outcomes


def _summary(plan: Plan) -> Iterator[str]:
    """Say what is judged, and what was there before."""
    yield from judged_notes(plan.prepared)
    if plan.found:
        rest = "the rest was fitted now" if plan.missing else "nothing was left to fit"
        yield f"{plan.found:,} models were there already; {rest}"


def judged_notes(prepared: Prepared) -> Iterator[str]:
    """Say how much of each cohort is judged, and why the rest is not."""
    for cohort in prepared.record.cohorts:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in cohort.left_out.items())
        yield (
            f"{cohort.name}: {cohort.images:,} images of {cohort.clusters:,} patients judged"
            + (f"; rows left out: {left_out}" if left_out else "")
        )


def _gathered(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Say once what several models of an encoder have to say."""
    trainings: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            trainings.setdefault((outcome.encoder, note), []).append(outcome.training)
    for (encoder, note), which in sorted(trainings.items()):
        yield f"{encoder} ({', '.join(sorted(which))}): {note}"


def worthwhile_workers(numbers: int, units: int) -> int:
    """How many processes pay for so many units that read so many numbers between them."""
    return min(cores(), units) if numbers > _WORTH_PROCESSES else 1

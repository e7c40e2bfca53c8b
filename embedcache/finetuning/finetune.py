"""The verb `finetune`: tune encoders over the folds of every other arm, and predict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.durable import clear_partial
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import PackageMissingError
from embedcache.finetuning.bench import Job, worker
from embedcache.finetuning.devices import run_jobs
from embedcache.finetuning.plan import FULL, Plan, plan_finetune
from embedcache.finetuning.prepare import Prepared
from embedcache.finetuning.task import Report
from embedcache.finetuning.units import Asked, has_rate
from embedcache.finetuning.watch import Watch
from embedcache.progress import Progress, Silent
from embedcache.protocol.protocol import Protocol
from embedcache.results.folds_file import write_folds
from embedcache.results.layout import ResultsFolder, write_record

#: Seconds after which a half-written file is a killed run's.
_ABANDONED = 3600.0


def finetune(  # noqa: PLR0913  # a verb has as many settings
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    protocol: Protocol,
    *,
    out: Path,
    asked: Asked = FULL,
    device: str = "auto",
    budget: float | None = None,
    tensorboard: Path | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Tune encoders over patient-cluster folds and predict every cohort of the protocol.

    A unit that the results hold already is not done again, and one that was under way goes on from
    its last checkpoint: a rerun does nothing, and a killed run resumes.

    Args:
        cohorts: values, or references such as `spain=fetal-planes-db:FOLDER`.
        encoders: references such as `usfm`, or resolved encoders.
        protocol: how models are judged.
        out: the results folder; one that exists keeps its protocol, and refuses another.
        asked: what is tuned, and how.
        device: `auto` (every GPU, else the CPU), `cpu`, `cuda` (every GPU), `cuda:1` or `mps`.
        budget: seconds; encoders that do not fit are left out and named.
        tensorboard: a folder for TensorBoard's event files.
        progress: what reports the work.

    Returns:
        What was planned, and is done now.

    Raises:
        EncoderUnusableError: if an encoder has no network.
        PackageMissingError: if what is asked for needs a package that is not installed.
        ProtocolDiffersError: if the results folder is of other images, classes, folds or cohorts.
        OtherTuningError: if it holds predictions of these encoders by other settings.
        BudgetTooSmallError: if no encoder fits the budget.
        TrainingDivergedError: if a training gave no number; others are finished before.
        WorkerDiedError: if the process of a GPU was killed.
        BadInputError: as `resolve` and `prepare`.
    """
    progress = progress or Silent()
    if tensorboard is not None and find_spec("tensorboard") is None:
        raise PackageMissingError("--tensorboard", "tensorboard")
    plan = plan_finetune(
        cohorts,
        encoders,
        protocol,
        out=out,
        asked=asked,
        device=device,
        budget=budget,
        progress=progress,
    )
    for note in (*plan.prepared.notes, *_judged(plan.prepared), *_promises(plan)):
        progress.note(note)
    folder = ResultsFolder(out)
    write_record(folder, plan.prepared.record)
    if not folder.folds_file.is_file():
        write_folds(folder, plan.prepared.folds)
    clear_partial(out, idle=_ABANDONED)
    _run(plan, tensorboard, progress)
    return plan


def _run(plan: Plan, tensorboard: Path | None, progress: Progress) -> None:
    """Do what is missing; an encoder that fails does not keep the others from finishing."""
    failed: Exception | None = None
    watch = partial(_watch, progress=progress)
    for phase in _phases(plan):
        jobs = [job for job in phase if has_rate(job.unit)] if failed else phase
        try:
            run_jobs(jobs, plan.devices, partial(worker, tensorboard), watch)
        except Exception as error:  # noqa: BLE001  # raised again once the others have finished
            failed = failed or error
    if failed is not None:
        raise failed


def _phases(plan: Plan) -> Iterator[list[Job]]:
    """Jobs that may run at once, phase after phase: first folds choose the rates of the others."""
    if len(plan.devices) == 1:
        # Encoder by encoder, so that each one's pictures are gathered once.
        yield [Job(unit=unit) for unit in plan.missing]
        return
    first = [unit for unit in plan.missing if unit.searches]
    yield [Job(unit=unit, rate=rate) for unit in first for rate in unit.asked.rates]
    yield [Job(unit=unit) for unit in first]
    yield [Job(unit=unit) for unit in plan.missing if not unit.searches]


@contextmanager
def _watch(job: Job, *, progress: Progress) -> Iterator[Report]:
    unit = job.unit
    rate = "" if job.rate is None else f", rate {job.rate:g}"
    with Watch(progress, f"{unit.reference} ({unit.asked.arm}, {unit.training}{rate})") as watch:
        yield watch


def _judged(prepared: Prepared) -> Iterator[str]:
    """Say how much of each cohort is judged, and why the rest is not."""
    for cohort in prepared.record.cohorts:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in cohort.left_out.items())
        yield (
            f"{cohort.name}: {cohort.images:,} images of {cohort.clusters:,} patients judged"
            + (f"; rows left out: {left_out}" if left_out else "")
        )


def _promises(plan: Plan) -> Iterator[str]:
    """Say before any work how long it takes, what is left out, and what is there already."""
    if plan.found:
        rest = "the rest is tuned now" if plan.missing else "nothing is left to tune"
        yield f"{plan.found:,} models were there already; {rest}"
    for encoder, hours in plan.dropped.items():
        yield f"{encoder} is left out: it would take {hours:.3g} h, and the budget has no room"
    if plan.missing:
        where = " and ".join(dict.fromkeys(plan.device_names))
        no_gpu = "; there is no GPU" if plan.devices == ("cpu",) else ""
        yield f"at most {plan.hours:.2g} h on {where}{no_gpu}"
    yield from _smaller(plan)


def _smaller(plan: Plan) -> Iterator[str]:
    """Say how UltraSAM is tuned by those who do not have its authors' machines."""
    if any(one.encoder == "ultrasam" for one in plan.estimates):
        hours = sum(one.hours for one in plan.estimates if one.encoder == "ultrasam")
        yield f"ultrasam at 1024 takes {hours:.2g} h; ultrasam@512 is how it is meant to be tuned"

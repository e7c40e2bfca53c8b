"""Run every encoder once over every image of every cohort, into a feature store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_all
from embedcache.cohorts.survey import Survey, survey
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.several import resolve_all
from embedcache.executor import check_scheduler, cores
from embedcache.extraction.asked import settings_for
from embedcache.extraction.encode import encode_missing
from embedcache.extraction.outcome import Extraction, failures_of, two_labels_of
from embedcache.extraction.wanted import wanted_images
from embedcache.progress import Progress, Silent
from embedcache.store.pseudonyms import OwnerKey, owner_key
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter, create_or_open_for_writing


def extract(  # noqa: PLR0913  # what a user may turn, by name
    store: Path,
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    *,
    device: str = "auto",
    batch: int | None = None,
    workers: int | None = None,
    compiled: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Bring a store up to date: encode what is missing, and nothing else.

    Args:
        store: the feature store; made if it is not there.
        cohorts: values, or references such as `spain=fetal-planes-db:FOLDER`.
        encoders: references such as `efficientnet-lite0`, or resolved encoders.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`; several, with commas between them, or
            `cuda:all` have a process each.
        batch: images a batch for feature sets that are new (others keep theirs); None: 32 on a
            CPU, what two seconds of trying say on a GPU.
        workers: threads that read and decode; None: one a core, fewer if memory is short.
        compiled: let torch.compile make the kernels; not to the bit what they are without.
        scheduler: have Dask's workers do it, which must see the images and the weights under the
            same paths: `local:N` processes, or a scheduler's address.
        progress: what reports the work.

    Raises:
        BadInputError: before anything is written, if a cohort or an encoder cannot be read.
        StoreBusyError: if another process writes one of the feature sets.
        WorkerDiedError: if no worker is left, or the same images end every worker.
    """
    progress = progress or Silent()
    if scheduler is not None:
        check_scheduler(scheduler)
    resolved = resolve_all(encoders, progress)
    read = read_all(cohorts)
    key = owner_key()
    surveys = [survey(cohort, workers or cores(), progress) for cohort in read]
    writer = create_or_open_for_writing(store)
    rows = [_register(writer, found, key) for found in surveys]
    wanted = wanted_images(surveys, rows)
    settings = settings_for(device, batch, workers, surveys, compiled=compiled, scheduler=scheduler)
    done = encode_missing(writer, wanted, resolved, settings, progress)
    writer.seal()
    return Extraction(
        encoders=done.encoders,
        passes=done.passes,
        failures=tuple(failures_of(surveys, rows, done.failed)),
        two_labels=tuple(two_labels_of(surveys, rows)),
    )


def _register(writer: StoreWriter, found: Survey, key: OwnerKey) -> NDArray[np.int64]:
    """Enter a cohort and its images; returns the image row of each cohort row, -1 unreadable."""
    cohort, readable = found.cohort, found.readable
    kinds = [found.kinds[kind] for kind in found.kind[readable].tolist()]
    row = np.full(len(cohort), -1, np.int64)
    row[readable] = writer.add_images(
        digest=found.digest[readable],
        size=found.size[readable],
        formats=[form for form, _ in kinds],
        modes=[mode for _, mode in kinds],
    )
    patient, which = np.unique(cohort.patient, return_inverse=True)
    reasons = list(found.unreadable.values())
    writer.put_cohort(
        StoredCohort(
            name=cohort.name,
            classes=cohort.classes,
            row=row,
            label=cohort.label,
            patient=key.pseudonyms(cohort.namespace, patient)[which],
            strata=cohort.strata,
            reader=cohort.reader,
            citation=cohort.citation,
            licence=cohort.licence,
            synthetic=cohort.synthetic,
            key_id=key.key_id,
            unreadable={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        )
    )
    return row

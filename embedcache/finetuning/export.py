"""What is left of a unit once it is trained: the tuned encoder, its head, and what both are.

The tuned encoder is an encoder file, for `extract --encoder FILE.safetensors`; the head is apart,
since it is of one protocol's classes. Both are made of patients' images and may give some away.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from embedcache.durable import write_file
from embedcache.encoders.tuned import write_tuned
from embedcache.finetuning.loop import Chosen
from embedcache.finetuning.units import REFIT, Unit
from embedcache.provenance import Overlap
from embedcache.schema import canonical_json


def write_model(unit: Unit, chosen: Chosen) -> None:
    """Write the tuned encoder as an encoder file, its head, and what both are."""
    from safetensors.torch import save

    trained, file = chosen.trained, unit.model_file
    file.parent.mkdir(parents=True, exist_ok=True)
    if unit.asked.tune != "head" and unit.encoder.plugin is None:
        # One that is there was left by a run that was stopped before it predicted.
        file.unlink(missing_ok=True)
        write_tuned(file, unit.encoder, trained.state, name=tuned_name(unit), seen=[_seen(unit)])
    head = {key: value for key, value in trained.state.items() if key.startswith("head.")}
    write_file(file.with_name(f"{unit.name}.head.safetensors"), save(head))
    about = {
        "format_version": 1,
        "arm": unit.asked.arm,
        "encoder": unit.reference,
        "parent": unit.encoder.contract.feature_id,
        "classes": unit.prepared.record.classes,
        "fold": unit.fold,
        "recipe": unit.asked.recipe,
        "rate": chosen.rate,
        # JSON has no number that is none: a rate that diverged has no loss.
        "validation_loss": {
            f"{rate:g}": loss if np.isfinite(loss) else None for rate, loss in chosen.loss.items()
        },
        "best_epoch": trained.best_epoch,
        "stopped_by": trained.stopped_by,
        "micro_batch": trained.micro_batch,
    }
    write_file(file.with_suffix(".json"), canonical_json(about) + b"\n")


def tuned_name(unit: Unit) -> str:
    """What a tuned encoder is called in stores and reports."""
    which = "all" if unit.fold == REFIT else str(unit.fold)
    return f"{unit.reference.partition('#')[0]}+{unit.asked.arm}-{which}"


def _seen(unit: Unit) -> Overlap:
    """A tuned encoder has seen its training cohort, which no probe of it may forget."""
    return Overlap(
        cohort=unit.prepared.train.about.reader,
        answer="yes",
        source=f"tuned on images of {unit.prepared.train.name}",
        checked=datetime.now(UTC).date().isoformat(),
    )

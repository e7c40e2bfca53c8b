"""What a fine-tuning would do, how long it would take, and what a budget leaves of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.contract import shortest_references
from embedcache.encoders.device import device_name, pick_device
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.several import resolve_all
from embedcache.encoders.spec import EncoderSpec
from embedcache.errors import EncoderUnusableError, OtherTuningError
from embedcache.finetuning.budget import Estimate, affordable, estimate, pace_of
from embedcache.finetuning.prepare import Prepared, check_beside, prepare
from embedcache.finetuning.recipe import RATES
from embedcache.finetuning.units import REFIT, Asked, Unit, units_of
from embedcache.progress import Progress, Silent
from embedcache.protocol.protocol import Protocol
from embedcache.results.layout import ResultsFolder, folder_name

#: What is asked for where nothing is said.
FULL = Asked(rates=RATES["full"])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Plan:
    """What a fine-tuning would do.

    Attributes:
        prepared: images and folds.
        missing: units to be done, in the order in which encoders were asked for.
        found: how many units the results hold already.
        estimates: how long each missing unit takes at most, in the same order.
        dropped: hours of each encoder that the budget has no room for.
        devices: what runs it.
        device_names: what a report calls them.
    """

    prepared: Prepared
    missing: tuple[Unit, ...]
    found: int
    estimates: tuple[Estimate, ...]
    dropped: dict[str, float] = field(default_factory=dict)
    devices: tuple[str, ...]
    device_names: tuple[str, ...]

    @property
    def hours(self) -> float:
        """All of it, on all devices at once, at most."""
        return sum(one.seconds for one in self.estimates) / len(self.devices) / 3600


def plan_finetune(
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    protocol: Protocol,
    *,
    out: Path,
    asked: Asked = FULL,
    device: str = "auto",
    budget: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Say what `finetune` would do, and write nothing; raises as it does.

    Reads and decodes every image, and times a few steps of each encoder.
    """
    progress = progress or Silent()
    devices = devices_of(device)
    named = _named(_resolved(encoders, progress))
    prepared = prepare(cohorts, protocol, tuple(named.values()), progress=progress)
    folder = ResultsFolder(out)
    check_beside(folder, prepared)
    units = [
        unit
        for reference, encoder in named.items()
        for unit in _checked(folder, units_of(prepared, reference, encoder, asked, out))
        if unit.fold != REFIT or asked.refit
    ]
    missing = [unit for unit in units if not unit.done]
    paces = {
        unit.reference: pace_of(unit.encoder, asked, devices[0])
        for unit in {one.reference: one for one in missing}.values()
    }
    estimates = [estimate(unit, paces[unit.reference]) for unit in missing]
    dropped: dict[str, float] = {}
    if budget is not None:
        fitting, left_out = affordable(estimates, budget, len(devices))
        dropped = dict(left_out)
        missing = [unit for unit in missing if unit.reference in fitting]
        estimates = [one for one in estimates if one.encoder in fitting]
    return Plan(
        prepared=prepared,
        missing=tuple(missing),
        found=sum(unit.done for unit in units),
        estimates=tuple(estimates),
        dropped=dropped,
        devices=devices,
        device_names=tuple(device_name(one) for one in devices),
    )


def devices_of(asked: str) -> tuple[str, ...]:
    """The devices that tune: every GPU for `auto` and `cuda`, else the one named.

    Raises:
        DeviceMissingError: if there is no such device.
    """
    first = pick_device(asked)
    if asked not in {"auto", "cuda"} or not first.startswith("cuda"):
        return (first,)
    import torch

    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def _resolved(
    encoders: Sequence[ResolvedEncoder | str], progress: Progress
) -> tuple[ResolvedEncoder, ...]:
    """Resolve encoders that can be tuned, one feature asked for twice once.

    Raises:
        EncoderUnusableError: if one has no network.
    """
    found = resolve_all(encoders, progress)
    for one in found:
        if not isinstance(one.spec, EncoderSpec):
            raise EncoderUnusableError(one.name, "it has no network that could be tuned")
    return tuple(found)


def _named(encoders: Sequence[ResolvedEncoder]) -> dict[str, ResolvedEncoder]:
    """Encoders by reference: `NAME`, or `NAME#ID` where several share the name."""
    ids = [(one.name, one.contract.feature_id) for one in encoders]
    return dict(zip(shortest_references(ids), encoders, strict=True))


def _checked(folder: ResultsFolder, units: tuple[Unit, ...]) -> tuple[Unit, ...]:
    """Refuse to put an encoder's predictions beside others of its own.

    Raises:
        OtherTuningError: if the folder holds units that are not among these.
    """
    first = units[0]
    held = {file.stem for file in first.predictions_file.parent.glob("*.parquet")}
    if not held <= {unit.name for unit in units}:
        raise OtherTuningError(folder.path, first.asked.arm, folder_name(first.reference))
    return units

"""Where a training stands, in files that are whole or absent: safetensors with their JSON inside.

```
last.safetensors      what training changes (`network.…`), AdamW's moments (`optimiser.…`), Record
best-<epoch>.safetensors    what training changes, at the best epoch so far
```
The record lies in the metadata of the file it is about, so that one rename replaces both. It names
the best file; one that it does not name was written by a run that was killed before its `last`, and
is cleared. States of random generators are not kept: every step draws from (seed, epoch, step).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.durable import PARTIAL, clear_partial, publish
from embedcache.errors import CheckpointDamagedError, CheckpointDiffersError, SchemaError
from embedcache.finetuning.task import Epoch
from embedcache.schema import canonical_json, from_json

if TYPE_CHECKING:
    from torch import Tensor

LAST = "last.safetensors"
_KEY = "embedcache"
_NETWORK, _OPTIMISER = "network.", "optimiser."


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """Where a training stands.

    Attributes:
        task: digest of all that decides it; see `loop.fingerprint`.
        epoch: under way, from 1; after the last one, one more than there were.
        taken: steps taken in it.
        loss: sum over its pictures so far.
        seen: pictures so far.
        curve: of the epochs before.
        best_epoch: of those; 0: none yet.
        micro_batch: pictures that go through the network at once.
        scaler: state of the loss's scale under fp16; empty otherwise.
        stopped_by: why it ended; empty while it runs.
        format_version: of this record.
    """

    task: str
    epoch: int
    taken: int
    loss: float
    seen: int
    curve: tuple[Epoch, ...]
    best_epoch: int
    micro_batch: int
    scaler: dict[str, float]
    stopped_by: str = ""
    format_version: int = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Checkpoint:
    """What a folder holds.

    Attributes:
        record: where the training stands.
        network: tensors that training changes, by name.
        optimiser: moments by parameter and kind, `NAME|exp_avg`; empty once it has ended.
    """

    record: Record
    network: dict[str, Tensor]
    optimiser: dict[str, Tensor]


def save_last(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the last checkpoint; durable when this returns. Clears older best files."""
    tensors = {_NETWORK + name: value for name, value in checkpoint.network.items()}
    tensors |= {_OPTIMISER + name: value for name, value in checkpoint.optimiser.items()}
    _write(folder / LAST, tensors, {_KEY: canonical_json(checkpoint.record).decode()})
    _clear(folder, checkpoint.record)


def save_best(folder: Path, epoch: int, network: Mapping[str, Tensor]) -> None:
    """Keep the network of an epoch; it counts once a last checkpoint names it."""
    _write(_best(folder, epoch), network, {})


def read_best(folder: Path, epoch: int) -> dict[str, Tensor]:
    """The network of the best epoch.

    Raises:
        CheckpointDamagedError: if it cannot be read.
    """
    return _read(_best(folder, epoch))[0]


def read_last(folder: Path, task: str) -> Checkpoint | None:
    """What a folder holds of a training, or None; clears what a killed one left.

    Args:
        folder: made if it is not there.
        task: digest of the training that asks.

    Raises:
        CheckpointDiffersError: if it is another training's.
        CheckpointDamagedError: if it cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clear_partial(folder)
    file = folder / LAST
    if not file.exists():
        return None
    tensors, metadata = _read(file)
    try:
        record = from_json(Record, metadata.get(_KEY, ""), file.name)
    except (ValueError, SchemaError) as error:
        raise CheckpointDamagedError(file.name, str(error)) from error
    if record.task != task:
        raise CheckpointDiffersError(folder.name)
    _clear(folder, record)
    return Checkpoint(
        record=record,
        network=_under(tensors, _NETWORK),
        optimiser=_under(tensors, _OPTIMISER),
    )


def _best(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:04d}.safetensors"


def _clear(folder: Path, record: Record) -> None:
    for file in folder.glob("best-*.safetensors"):
        if file != _best(folder, record.best_epoch):
            file.unlink()


def _under(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    # safetensors takes no views of a shared memory, and leaves strides out.
    apart = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        save_file(apart, partial, metadata=metadata)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Copies: a mapped file is replaced while its tensors are in use.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no dict
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointDamagedError(path.name, str(error)) from error

"""Train a small network in processes that die at their N-th fsync: SETTINGS.json FOLDER N …

Each file that is published is synced, renamed, and its folder synced: at an odd N the process dies
with a checkpoint written and not named, at an even N with one named and not yet durable. One
process trains to the end elsewhere, so that all is imported, and then lets its copies die, one
after another; it writes, as JSON, how each ended and whether it left a file without a name.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import training

from embedcache.finetuning.loop import train
from embedcache.finetuning.task import Unwatched


def train_until(syncs: int, folder: Path) -> None:
    left, fsync = syncs, os.fsync

    def dying(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = dying
    task = training.task(folder, save_every=0.0, **json.loads(sys.argv[1]))
    train(task, device="cpu", report=Unwatched())


def main() -> None:
    import torch

    torch.set_num_threads(1)  # a copy of a process has none of its threads
    folder, ended = Path(sys.argv[2]), []
    train_until(0, folder.with_name("whole-elsewhere"))
    for syncs in map(int, sys.argv[3:]):
        child = os.fork()
        if not child:
            train_until(syncs, folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        partial = bool(list(folder.glob("*.partial")))
        ended.append((os.waitstatus_to_exitcode(status), partial))
    sys.stdout.write(json.dumps(ended))


if __name__ == "__main__":
    main()

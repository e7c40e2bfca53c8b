"""Train a small network in a process that dies at its N-th fsync: SETTINGS.json FOLDER N.

Each file that is published is synced, renamed, and its folder synced: at an odd N the process dies
with a checkpoint written and not named, at an even N with one named and not yet durable.
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


def main() -> None:
    left = int(sys.argv[3])
    fsync = os.fsync

    def dying(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(descriptor)

    os.fsync = dying
    task = training.task(Path(sys.argv[2]), save_every=0.0, **json.loads(sys.argv[1]))
    train(task, device="cpu", report=Unwatched())


if __name__ == "__main__":
    main()

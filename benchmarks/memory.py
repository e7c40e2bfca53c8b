"""What keeping freed memory and laying pixels side by side save, in processor seconds.

    python benchmarks/memory.py

efficientnet-lite0 on a CPU, batches of 32, each setting in a process of its own, in turn, three
times; the median. "neither" is the network as timm makes it, run the same way.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys

from record import record

BATCHES = 4
SETTINGS = ("neither", "kept", "kept-and-channels-last")


def child(setting: str) -> None:
    import numpy as np
    import torch

    from embedcache.encoders.checkpoint import read_state
    from embedcache.encoders.memory import keep_freed_memory
    from embedcache.encoders.resolve import resolve

    # Not `load_encoder`: whatever it builds keeps freed memory.
    encoder = resolve("efficientnet-lite0")
    network = encoder.spec.build(read_state(encoder.file)).eval()
    if setting != "neither":
        keep_freed_memory()
    if setting == "kept-and-channels-last":
        network = network.to(memory_format=torch.channels_last)
    batch = torch.rand(32, 3, 224, 224)
    if setting == "kept-and-channels-last":
        batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(batch)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(BATCHES):
            network(batch)
    after = resource.getrusage(resource.RUSAGE_SELF)
    images = BATCHES * len(batch)
    seconds = np.array([after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime])
    print(json.dumps((1000 * seconds / images).tolist()))


def main() -> None:
    runs: dict[str, list[list[float]]] = {setting: [] for setting in SETTINGS}
    for _ in range(3):
        for setting in SETTINGS:
            done = subprocess.run(
                [sys.executable, __file__, setting], capture_output=True, text=True, check=True
            )
            runs[setting].append(json.loads(done.stdout))
    figures = {
        setting: {
            "user_ms_per_image": round(statistics.median(user for user, _ in found), 1),
            "system_ms_per_image": round(statistics.median(system for _, system in found), 1),
        }
        for setting, found in runs.items()
    }
    whole = {name: sum(found.values()) for name, found in figures.items()}
    ratio = round(whole["neither"] / whole["kept-and-channels-last"], 2)
    record("memory", {**figures, "processor_time_saved_ratio": ratio})


if __name__ == "__main__":
    if sys.argv[1:]:
        child(sys.argv[1])
    else:
        main()

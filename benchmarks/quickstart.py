"""How long `embedcache quickstart` takes, how much memory, and how fast `--help` answers.

    python benchmarks/quickstart.py

Bars: 60 s and 2 GB on 2 cores; --help under 0.5 s. Memory is the resident memory of all processes
of the command together (proportional: shared pages count once), looked at every 50 ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import record

RUNS = 3


def main() -> None:
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:2]))
    runs = [quickstart() for _ in range(RUNS)]
    with tempfile.TemporaryDirectory() as folder:
        quickstart(Path(folder))
        again = quickstart(Path(folder))
    record(
        "quickstart",
        {
            "seconds": summary([run["seconds"] for run in runs]),
            "peak_memory_gb": summary([run["peak_memory_gb"] for run in runs]),
            "seconds_when_run_again": round(again["seconds"], 2),
            "help_seconds": summary([help_seconds() for _ in range(10)]),
        },
    )


def quickstart(out: Path | None = None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "embedcache", "quickstart", "--out", str(out or folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, sum(proportional(pid) for pid in family(process.pid)))
            time.sleep(0.05)
        if process.returncode:
            sys.exit(f"quickstart ended with {process.returncode}")
        return {"seconds": time.monotonic() - started, "peak_memory_gb": peak / 1e9}


def family(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


def proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def help_seconds() -> float:
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "embedcache", "--help"], stdout=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - started


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


if __name__ == "__main__":
    main()

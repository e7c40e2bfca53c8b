"""Where a benchmark's figures go: benchmarks/results/NAME.json, with what made them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from embedcache.provenance import provenance
from embedcache.schema import plain

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
COHORTS = ROOT.parent / "shared" / "cohorts"


def record(name: str, figures: dict[str, Any]) -> None:
    """Write one result and show it."""
    content = {"machine": machine(), "provenance": plain(provenance()), **figures}
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    print(f"-> {file.relative_to(ROOT)}")


def machine() -> dict[str, Any]:
    """Processor, cores and memory; no host name."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "commit": commit.stdout.strip(),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()

"""Freed memory stays with the process where the C library can keep it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

#: Page faults of ten rounds of taking and freeing 64 MB.
FAULTS = """
import json, resource, sys
import numpy as np
from embedcache.encoders.memory import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 23)
print(json.dumps([kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def faults(word: str) -> tuple[bool, int]:
    # Dask leaves what is meant for workers that it starts in the environment of this process.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, word], capture_output=True, text=True, check=True, env=plain
    )
    kept, count = json.loads(done.stdout)
    return kept, count


def test_memory_that_was_freed_is_not_fetched_again() -> None:
    kept, with_keeping = faults("keep")
    if not kept:
        pytest.skip("the C library here has no mallopt")
    _, without = faults("give back")
    assert with_keeping < without / 4

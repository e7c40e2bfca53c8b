"""Memory of this process: whether it ended, and that what is freed stays for the next batch.

A network's activations are tens of megabytes each. glibc gives blocks of that size back to the
system at once, and the next layer faults every page in again: over half of the processor time of
efficientnet-lite0 on a CPU were spent in the kernel (benchmarks/results/memory.json). A thread
that is not the first allocates from a heap of its own that ends at 64 MiB, beyond which the same
happens whatever is kept: so threads that start from now on share the first one's. That is early
enough only before numpy and torch start theirs: the command line asks first thing, a program that
calls `extract` may (50 images a second of lite0 became 80, benchmarks/results/memory.json has the
first kind, docs/performance.md both).
"""

from __future__ import annotations

import ctypes
import sys

#: mallopt's parameters, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
#: The largest block that is kept; glibc takes an int.
_KEPT = 1 << 30
#: The same for a process that is about to be started: the names are glibc's, in mallopt(3).
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
    "MALLOC_ARENA_MAX": "1",
}

#: What torch's allocators say besides raising OutOfMemoryError.
_PHRASES = ("can't allocate memory", "out of memory")


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed; returns whether it can (glibc only)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, musl for one
        return False
    kept = ((_M_MMAP_THRESHOLD, _KEPT), (_M_TRIM_THRESHOLD, _KEPT), (_M_ARENA_MAX, 1))
    return all(mallopt(*one) for one in kept)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no memory left."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (
        torch is not None and isinstance(error, torch.OutOfMemoryError)
    ):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _PHRASES)

"""Which encoders run together: as many as fit into memory, the rest in passes after them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedcache.encoders.device import pick_device
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.together import build_together
from embedcache.extraction.engine import threads_of
from embedcache.extraction.forward import Forward
from embedcache.extraction.memory import Cost, cost_of, free_memory, weight_bytes
from embedcache.extraction.stream import Lane


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What runs together.

    Attributes:
        lanes: of this pass.
        forwards: their networks, built, in the same order.
        later: lanes of the passes after it.
    """

    lanes: tuple[Lane, ...]
    forwards: tuple[Forward, ...]
    later: tuple[Lane, ...]


def passes(lanes: Sequence[Lane], device: str) -> Iterator[Pass]:
    """Build lanes for as long as memory lasts, then give them; what does not fit comes next.

    A pass's networks are free before those of the next are built, if its taker keeps none.
    """
    waiting = list(lanes)
    while waiting:
        yield _fill(waiting, device)


def _fill(waiting: list[Lane], device: str) -> Pass:
    """Take lanes off the front of `waiting` while they fit; the first always does."""
    taken: list[tuple[float, Lane, Forward]] = []
    alone = len(waiting) == 1
    most = 0
    while waiting:
        lane = waiting[0]
        if taken and weight_bytes(lane.tracks[0].encoder) + most > free_memory(device):
            break
        forward = built(lane, device)
        cost = Cost(seconds=0.0, bytes=0) if alone else cost_of(forward.encoders[0])
        # Encoders take turns: what one has freed, the next uses.
        most = max(most, cost.bytes * lane.batch * threads_of(device))
        if taken and most > free_memory(device):
            break
        taken.append((cost.seconds, lane, forward))
        waiting.pop(0)
    # The longest first: at the end of the pass the short ones fill what a long one leaves idle.
    taken.sort(key=lambda one: -one[0])
    return Pass(
        lanes=tuple(lane for _, lane, _ in taken),
        forwards=tuple(forward for _, _, forward in taken),
        later=tuple(waiting),
    )


def device_of(lanes: Sequence[Lane], asked: str) -> str:
    """The device that was asked for; none is looked for where no encoder has a network.

    Raises:
        DeviceMissingError: if there is no such device.
    """
    specs = [track.encoder.spec for lane in lanes for track in lane.tracks]
    return pick_device(asked) if any(isinstance(spec, EncoderSpec) for spec in specs) else "cpu"


def built(lane: Lane, device: str) -> Forward:
    """Build the network of a lane and the encoders on it."""
    return Forward(build_together([track.encoder for track in lane.tracks], device))

"""Which encoders run together: as many as fit into memory, the rest in passes after them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from embedcache.encoders.device import pick_device
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.together import build_together
from embedcache.extraction.engine import threads_of
from embedcache.extraction.forward import Forward
from embedcache.extraction.memory import activation_bytes, free_memory, weight_bytes
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
    forwards: list[Forward] = []
    taken: list[Lane] = []
    most = 0
    while waiting:
        lane = waiting[0]
        if taken and weight_bytes(lane.tracks[0].encoder) + most > free_memory(device):
            break
        forward = built(lane, device)
        if len(waiting) + len(taken) > 1:  # alone it must do whatever it takes
            running = activation_bytes(forward.encoders[0]) * lane.batch * threads_of(device)
            # Encoders take turns: what one has freed, the next uses.
            most = max(most, running)
            if taken and most > free_memory(device):
                break
        forwards.append(forward)
        taken.append(waiting.pop(0))
    return Pass(tuple(taken), tuple(forwards), tuple(waiting))


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

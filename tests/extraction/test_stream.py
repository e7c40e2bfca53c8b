"""The threads of a pass hand work on in order, wait only where all is full, and lose nothing."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit, fit_narrow, widen
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import DeviceTooSmallError
from embedcache.extraction.clock import Clock
from embedcache.extraction.engine import WAITING, ThreadEngine
from embedcache.extraction.extract import extract
from embedcache.extraction.forward import Forward
from embedcache.extraction.pictures import fitting, without_colour
from embedcache.extraction.scratch import Scratch
from embedcache.extraction.shelf import Shelf
from embedcache.extraction.stream import stacked
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import Speckle, speckles
from embedcache.testing.stand_ins import paced

GREY = Preprocessing(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)


def starved(most: int) -> ResolvedEncoder:
    """A stand-in whose device has no memory for more than `most` pictures at once."""
    import torch

    whole = paced(0)

    def compute(batch: np.ndarray) -> np.ndarray:
        if len(batch) > most:
            raise torch.OutOfMemoryError
        return whole.spec.compute(batch)

    return dataclasses.replace(whole, spec=dataclasses.replace(whole.spec, compute=compute))


@pytest.mark.parametrize("most", [1, 3, 8])
def test_out_of_memory_halves_the_batch_names_the_rows_and_loses_none(tmp_path, most: int) -> None:
    extract(tmp_path / "whole.zarr", [speckles(50)], [paced(0)], batch=16)
    extract(tmp_path / "less.zarr", [speckles(50)], [starved(most)], batch=16)
    whole, less = open_store(tmp_path / "whole.zarr"), open_store(tmp_path / "less.zarr")
    (one,) = less.feature_sets()
    assert less.content_digest(one.id) == whole.content_digest(one.id)
    (run,) = one.runs
    (size,) = run.halved
    assert int(size) == 2 ** int(np.log2(most))  # 16, 8, 4, 2, 1: the first that fits
    assert run.halved[size] == tuple(range(50))
    (undisturbed,) = whole.feature_sets()[0].runs
    assert undisturbed.halved is None


def test_a_device_without_room_for_one_picture_ends_the_run_in_a_sentence(tmp_path) -> None:
    with pytest.raises(DeviceTooSmallError, match="no memory left"):
        extract(tmp_path / "s.zarr", [speckles(5)], [starved(0)])


class Gate:
    """An encoder that waits until it is let through, and says when it is asked."""

    device, name = "", "gate"

    def __init__(self) -> None:
        self.asked, self.opened = threading.Event(), threading.Event()

    def encode(self, batch: np.ndarray) -> np.ndarray:
        self.asked.set()
        assert self.opened.wait(10)
        return batch[:, 0, 0].astype(np.float32)


def test_a_device_is_given_the_next_batch_while_it_encodes_and_then_no_more() -> None:
    gate, pixels = Gate(), np.zeros((1, 1, 1, 4), np.uint8)
    with ThreadEngine([Forward([gate])], Clock()) as engine:
        futures = [engine.submit(0, pixels) for _ in range(1 + WAITING)]  # none of these blocks
        assert gate.asked.wait(10)
        with ThreadPoolExecutor(1) as other:
            blocked = other.submit(engine.submit, 0, pixels)
            assert not blocked.done()
            gate.opened.set()
            futures.append(blocked.result(10))
        assert all(future.result(10).most == 1 for future in futures)


def test_a_slow_disk_does_not_stop_the_device() -> None:
    # The shelf's first task waits for the last batch's vectors: a writer in the device's way
    # would never come to that.
    free, done = threading.Event(), []
    with Shelf(Clock()) as shelf:
        shelf.put(lambda: done.append(free.wait(10)))
        gate = Gate()
        gate.opened.set()
        with ThreadEngine([Forward([gate])], Clock()) as engine:
            for _ in range(50):
                future = engine.submit(0, np.zeros((1, 1, 1, 4), np.uint8))
                shelf.put(lambda future=future: done.append(future.result(10)))
            future.result(10)
            assert done == []
            free.set()
    assert len(done) == 51


def test_tasks_are_done_in_order_and_none_after_one_that_failed() -> None:
    done: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    def work() -> None:
        with Shelf(Clock()) as shelf:
            for number in range(5):
                shelf.put(lambda number=number: done.append(number))
            shelf.put(fail)
            while True:  # until the failure has come round
                shelf.put(lambda: done.append(-1))

    with pytest.raises(ZeroDivisionError):
        work()
    assert done == [0, 1, 2, 3, 4]


def test_an_encoder_s_error_reaches_the_caller_and_the_rest_is_kept(tmp_path) -> None:
    broken, calls = paced(0), []

    def compute(batch: np.ndarray) -> np.ndarray:
        calls.append(len(batch))
        if len(calls) > 2:
            raise ZeroDivisionError
        return broken.spec.compute(batch)

    failing = dataclasses.replace(broken, spec=dataclasses.replace(broken.spec, compute=compute))
    with pytest.raises(ZeroDivisionError):
        extract(tmp_path / "s.zarr", [speckles(200)], [failing], batch=8)
    assert open_store(tmp_path / "s.zarr").feature_sets()[0].done == 16


pictures = st.builds(
    lambda seed, width, height: np.random.default_rng(seed).integers(
        0, 256, (height, width), np.uint8
    ),
    st.integers(0, 2**16),
    st.integers(1, 40),
    st.integers(1, 40),
)


@given(
    pictures,
    st.sampled_from(["squash", "pad-square", "long-side", "centre-crop"]),
    st.sampled_from(["bilinear", "bicubic", "cv2-bilinear", "cv2-bicubic"]),
    st.sampled_from(["rgb", "grey", "mean"]),
)
def test_equal_channels_fitted_as_one_give_the_same_bytes(pixels, how, resample, colour) -> None:
    shape = dataclasses.replace(GREY, fit=how, resample=resample, colour=colour)
    three = Image.fromarray(np.repeat(pixels[:, :, None], 3, axis=2))
    one = without_colour(three)
    assert one.mode == "L"
    assert np.array_equal(widen(fit_narrow(one, shape), shape), fit(three, shape))


def test_a_picture_with_one_coloured_pixel_keeps_its_colour() -> None:
    pixels = np.full((30, 20, 3), 7, np.uint8)
    pixels[29, 19, 2] = 8
    assert without_colour(Image.fromarray(pixels)).mode == "RGB"


def test_a_batch_is_one_plane_if_all_are_grey_and_three_if_one_is_not() -> None:
    grey, colour = np.full((1, 2, 2), 9, np.uint8), np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert stacked({4: grey, 6: grey}, 4, GREY).shape == (4, 1, 2, 2)
    mixed = stacked({4: grey, 6: colour}, 4, GREY)
    assert np.array_equal(mixed[0], np.repeat(grey, 3, axis=0))
    assert np.array_equal(mixed[2], colour)
    assert not mixed[[1, 3]].any()


def test_a_network_gives_the_same_bits_for_a_grey_batch_of_one_plane_or_three() -> None:
    from embedcache.encoders.resolve import load_encoder

    encoder = load_encoder("timm:test_vit=random")
    grey = np.random.default_rng(0).integers(0, 256, (4, 1, 160, 160), np.uint8)
    assert np.array_equal(encoder.encode(grey), encoder.encode(np.repeat(grey, 3, axis=1)))


def test_preprocessings_that_differ_in_arithmetic_share_a_picture() -> None:
    other = dataclasses.replace(GREY, mean=(0.1,) * 3, std=(0.2,) * 3, standardise="picture")
    assert fitting(GREY) == fitting(other)
    assert fitting(GREY) != fitting(dataclasses.replace(GREY, fit="pad-square"))


def test_scratch_gives_back_what_was_kept_and_keeps_no_more_than_it_may(tmp_path) -> None:
    planes = [np.full((1, 8, 8), value, np.uint8) for value in range(3)]
    with Scratch(tmp_path, most=130) as scratch:
        for row, one in enumerate(planes):
            scratch.keep(row, GREY, one)
        assert np.array_equal(scratch.take(1, [GREY])[GREY], planes[1])
        assert scratch.take(2, [GREY]) is None  # 3 x 64 bytes are more than 130
        assert scratch.take(1, [GREY, fitting(GREY)]) is None  # not both
        assert not scratch.has_room


def test_scratch_has_no_name_that_a_killed_run_could_leave(tmp_path) -> None:
    with Scratch(tmp_path) as scratch:
        scratch.keep(0, GREY, np.zeros((1, 8, 8), np.uint8))
        assert list(tmp_path.iterdir()) == []


def counted_reads(counts: dict[int, int], number: int) -> object:
    @dataclasses.dataclass(frozen=True)
    class Counted(Speckle):
        def read(self):
            counts[self.number] = counts.get(self.number, 0) + 1
            return super().read()

    return Counted(number)


NETWORKS = ("timm:test_vit=random:1", "timm:test_vit=random:2")


@pytest.mark.parametrize(("room", "reads"), [(1.0, 2), (0.0, 3)])
def test_encoders_that_do_not_fit_together_run_in_passes_with_the_same_vectors(
    tmp_path, monkeypatch, room: float, reads: int
) -> None:
    together = extract(tmp_path / "one.zarr", [speckles(40)], NETWORKS, device="cpu", batch=16)
    monkeypatch.setattr("embedcache.extraction.passes.free_memory", lambda _: -1)
    monkeypatch.setattr("embedcache.extraction.scratch.SHARE", room)
    counts: dict[int, int] = {}
    cohort = speckles(40)
    images = tuple(counted_reads(counts, number) for number in range(40))
    apart = extract(
        tmp_path / "two.zarr",
        [dataclasses.replace(cohort, images=images)],
        NETWORKS,
        device="cpu",
        batch=16,
    )
    assert [len(one.encoders) for one in together.passes] == [2]
    assert [one.encoders for one in apart.passes] == [(name.split("=")[0],) for name in NETWORKS]
    # Once to hash it, once to encode it; again in the second pass only where nothing was kept.
    assert set(counts.values()) == {reads}
    one, two = open_store(tmp_path / "one.zarr"), open_store(tmp_path / "two.zarr")
    for found in one.feature_sets():
        assert one.content_digest(found.id) == two.content_digest(found.id)


def test_a_run_says_where_its_time_went_and_the_store_keeps_it(tmp_path: Path) -> None:
    done = extract(tmp_path / "s.zarr", [speckles(60)], [paced(0.001), paced(0, name="free")])
    (one,) = done.passes
    assert one.encoders == ("paced", "free")
    assert one.throughput.images == 60
    assert {"read", "decode", "fit", "forward", "write"} <= one.throughput.stages.keys()
    # Sixty times a millisecond: a sleep is never shorter.
    assert 0.06 <= one.throughput.bare <= one.throughput.seconds
    assert 0 < one.share <= 1
    assert one.rate == 60 / one.throughput.seconds
    for found in open_store(tmp_path / "s.zarr").feature_sets():
        assert found.runs[0].throughput == one.throughput


def test_torch_s_threads_are_what_they_were_after_a_run(tmp_path) -> None:
    import torch

    before = torch.get_num_threads()
    extract(tmp_path / "s.zarr", [speckles(4)], ["timm:test_vit=random"], device="cpu")
    assert torch.get_num_threads() == before

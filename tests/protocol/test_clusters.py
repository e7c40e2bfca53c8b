"""Patient clusters follow patients, digests and links, and nothing else."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.protocol.clusters import cluster_images, number_clusters

#: Enough to find a wrong rule (tried); no deadline, as a loaded machine is no failure.
few = settings(max_examples=40, deadline=None)
#: rows of (image, patient); few of each, so that most are shared
listings = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=20)
links = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=4)


def digest(image: int) -> bytes:
    return hashlib.sha256(str(image).encode()).digest()


def digests(rows) -> np.ndarray:
    return np.stack([np.frombuffer(digest(image), np.uint8) for image, _ in rows])


def pairs(linked) -> tuple[tuple[str, str], ...]:
    return tuple((digest(a).hex(), digest(b).hex()) for a, b in linked)


def clusters(rows, linked=()) -> np.ndarray:
    return cluster_images(digests(rows), np.array([p for _, p in rows]), pairs(linked))


def brute_force(rows, linked) -> np.ndarray:
    """Merge sets of things until nothing changes, then number them by smallest digest."""
    groups = [{("image", i), ("patient", p)} for i, p in rows]
    groups += [{("image", a), ("image", b)} for a, b in linked]
    merged = True
    while merged:
        merged = False
        for a in range(len(groups)):
            for b in range(a + 1, len(groups)):
                if groups[a] & groups[b]:
                    groups[a] |= groups.pop(b)
                    merged = True
                    break
            if merged:
                break
    home = [next(k for k, g in enumerate(groups) if ("image", i) in g) for i, _ in rows]
    smallest = {}
    for k, (image, _) in zip(home, rows, strict=True):
        smallest[k] = min(smallest.get(k, b"\xff" * 33), digest(image))
    rank = {k: n for n, k in enumerate(sorted(smallest, key=smallest.__getitem__))}
    return np.array([rank[k] for k in home])


@few
@given(listings, links)
def test_clusters_are_the_connected_components(rows, linked) -> None:
    assert clusters(rows, linked).tolist() == brute_force(rows, linked).tolist()


@few
@given(listings, links, st.permutations(range(7)))
def test_renaming_patients_changes_nothing(rows, linked, names) -> None:
    renamed = [(image, names[patient]) for image, patient in rows]
    assert np.array_equal(clusters(renamed, linked), clusters(rows, linked))


@few
@given(listings, links, st.randoms())
def test_clusters_follow_their_rows_when_rows_move(rows, linked, random) -> None:
    order = random.sample(range(len(rows)), k=len(rows))
    moved = clusters([rows[k] for k in order], linked)
    assert np.array_equal(moved, clusters(rows, linked)[order])


def test_a_link_joins_through_an_image_that_is_not_there() -> None:
    rows = [(1, 1), (2, 2), (3, 3)]
    assert len(set(clusters(rows, [(1, 99), (99, 2)])[:2].tolist())) == 1
    assert len(set(clusters(rows, [(1, 99)]).tolist())) == 3


def test_patients_may_be_pseudonyms_or_names() -> None:
    rows = [(1, 7), (2, 7), (3, 8)]
    names = np.array(["Ana", "Ana", "Eva"])
    pseudonyms = np.stack([np.frombuffer(digest(p), np.uint8)[:16] for _, p in rows])
    expected = clusters(rows).tolist()
    assert cluster_images(digests(rows), names).tolist() == expected
    assert cluster_images(digests(rows), pseudonyms).tolist() == expected


def test_digests_that_end_in_zeros_stay_apart_and_in_order() -> None:
    image = np.zeros((3, 32), np.uint8)
    image[0, 0], image[1, 31] = 1, 1
    # Ascending: all zeros (row 2), a last byte of 1 (row 1), a first byte of 1 (row 0).
    assert cluster_images(image, np.array([1, 2, 3])).tolist() == [2, 1, 0]


def test_no_rows_make_no_clusters() -> None:
    assert number_clusters(np.zeros((0, 32), np.uint8), np.zeros(0)).tolist() == []

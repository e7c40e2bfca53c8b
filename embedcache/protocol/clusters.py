"""Patient clusters: what is split and resampled.

A cluster is a connected component of images that share a patient, a digest, or a link. It is a
function of digests, patients and links alone, so that row order, patient names and pseudonym keys
change nothing (statistics.md section 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Links = tuple[tuple[str, str], ...]


def digest_keys(image: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """View digests, (n, 32) uint8, as sortable keys, (n,) bytes.

    NumPy drops trailing zeros of bytes; among keys of one length that changes neither order nor
    equality.
    """
    return np.ascontiguousarray(image).view("S32").reshape(len(image))


def cluster_images(
    image: NDArray[np.uint8], patient: NDArray[Any], links: Links = ()
) -> NDArray[np.int64]:
    """Find the patient cluster of each row.

    Links are followed through images that are not among the rows, so that leaving rows out never
    parts two images that a pair of links joins.

    Args:
        image: digests, (n, 32) uint8; an image may stand in several rows.
        patient: equal values are one patient, (n,) or (n, k) of any sortable dtype.
        links: pairs of hex digests.

    Returns:
        Clusters numbered from 0 by their smallest digest, (n,) int64.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(image)
    linked = np.frombuffer(bytes.fromhex("".join(a + b for a, b in links)), np.uint8)
    keys = digest_keys(np.concatenate([image, linked.reshape(-1, 32)]))
    digests, digest = np.unique(keys, return_inverse=True)
    _, person = np.unique(patient, axis=0, return_inverse=True)
    # A graph of digests and patients; a row joins its digest to its patient, a link two digests.
    start = np.concatenate([digest[:n], digest[n::2]])
    end = np.concatenate([len(digests) + person.reshape(n), digest[n + 1 :: 2]])
    size = len(digests) + n
    graph = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return number_clusters(image, component[digest[:n]])


def number_clusters(image: NDArray[np.uint8], group: NDArray[Any]) -> NDArray[np.int64]:
    """Number groups of rows from 0 by their smallest digest.

    Args:
        image: digests, (n, 32) uint8.
        group: equal values are one group, (n,).

    Returns:
        The group's number of each row, (n,) int64.
    """
    order = np.argsort(digest_keys(image), kind="stable")
    _, first, inverse = np.unique(group[order], return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    cluster = np.empty(len(image), np.int64)
    cluster[order] = number[inverse]
    return cluster

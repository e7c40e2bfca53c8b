"""The leakage audit: which external images a model of the training cohort has seen.

Folds guard themselves (`Folds` refuses a cluster in two folds). External cohorts are another
matter: hospitals share patients and public data sets share files, so an external image is dropped
where its patient cluster, formed over both cohorts, holds a training image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.protocol.clusters import Links, cluster_images, digest_keys

#: Reasons, by code; the first means that the image may be judged.
LEAKS = (
    "",
    "also a training image",
    "near-duplicate of a training image",
    "patient also in training",
)


def external_leaks(
    train_image: NDArray[np.uint8],
    train_patient: NDArray[Any],
    trained: NDArray[np.bool_],
    image: NDArray[np.uint8],
    patient: NDArray[Any],
    links: Links,
) -> NDArray[np.int8]:
    """Find the external images whose patient cluster was trained on.

    Args:
        train_image: digests of the training cohort, (n, 32) uint8.
        train_patient: its patients, (n,) of any sortable dtype.
        trained: which of its rows models are fitted on; the others only join patients, (n,) bool.
        image: digests of the external cohort, (m, 32) uint8.
        patient: its patients, (m,); equal to a training patient's value only if the same person.
        links: pairs of hex digests.

    Returns:
        Codes into `LEAKS`, the plainest reason that holds, (m,) int8.
    """
    n = len(train_image)
    both = np.concatenate([train_image, image])
    cluster = cluster_images(both, np.concatenate([train_patient, patient]), links)
    code = np.where(np.isin(cluster[n:], cluster[:n][trained]), 3, 0).astype(np.int8)
    seen = set(digest_keys(train_image[trained]).tolist())
    linked = {b for pair in _pairs(links) for a, b in (pair, pair[::-1]) if a in seen}
    for row, key in enumerate(digest_keys(image).tolist()):
        if key in seen:
            code[row] = 1
        elif key in linked:
            code[row] = 2
    return code


def _pairs(links: Links) -> list[tuple[bytes, bytes]]:
    # As `digest_keys` gives them: NumPy drops trailing zeros.
    return [(bytes.fromhex(a).rstrip(b"\0"), bytes.fromhex(b).rstrip(b"\0")) for a, b in links]

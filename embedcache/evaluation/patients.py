"""The patient level: one prediction a patient cluster, the mean probability of its images.

It exists only where every cluster has one label: a patient whose images show different planes has
no class of its own.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from embedcache.evaluation.evaluand import Evaluand


def by_patient(evaluand: Evaluand) -> Evaluand | str:
    """Judge patient clusters in place of images, or say in words why that cannot be."""
    if evaluand.probability is None:
        return "patients are judged by mean probability, and these predictions have none"
    clusters, first = np.unique(evaluand.cluster, return_index=True)
    label = evaluand.label[first]
    mixed = np.unique(evaluand.cluster[label[evaluand.cluster] != evaluand.label])
    if len(mixed):
        return f"{len(mixed)} of {len(clusters)} patients have images of several classes"
    size = np.bincount(evaluand.cluster)[:, None]
    mean = np.stack([_sums(model, evaluand) / size for model in evaluand.probability])
    return dataclasses.replace(
        evaluand,
        level="patient",
        image=evaluand.image[first],
        label=label,
        cluster=clusters,
        predicted=mean.argmax(axis=-1).astype(np.int16),
        probability=mean,
        strata={},
        tested=None if evaluand.tested is None else evaluand.tested[first],
    )


def _sums(probability: np.ndarray, evaluand: Evaluand) -> np.ndarray:
    columns = [np.bincount(evaluand.cluster, column) for column in probability.T]
    return np.column_stack(columns)

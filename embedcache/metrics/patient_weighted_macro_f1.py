"""Macro-F1 in which every patient cluster counts as one, however many images it has.

An image of a cluster of w images counts 1 / w. Where a tenth of the patients holds half the
images, this says what a patient may expect; macro-F1 says what an image may.
"""

from __future__ import annotations

from embedcache.metrics.macro_f1 import from_confusion
from embedcache.metrics.metric import CountMetric

METRIC = CountMetric(
    name="patient-weighted-macro-f1",
    title="Patient-weighted macro-F1",
    scale="logit",
    better="higher",
    from_confusion=from_confusion,
    unit="cluster",
    mean_of="either",
)

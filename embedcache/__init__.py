"""Which pretrained encoder for a hospital's images, and does it hold on another population?

The public verbs and values are imported when first used: `import embedcache` is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedcache.cohorts.cohort import Cohort as Cohort
    from embedcache.cohorts.inspect import inspect as inspect
    from embedcache.cohorts.inspection import Inspection as Inspection
    from embedcache.cohorts.reference import read_cohort as read_cohort
    from embedcache.contract import Contract as Contract
    from embedcache.contract import Preprocessing as Preprocessing
    from embedcache.encoders.resolve import load_encoder as load_encoder
    from embedcache.encoders.spec import EncoderSpec as EncoderSpec
    from embedcache.evaluation.compare import compare as compare
    from embedcache.evaluation.evaluate import evaluate as evaluate
    from embedcache.evaluation.foreign import evaluate_table as evaluate_table
    from embedcache.extraction.extract import extract as extract
    from embedcache.finetuning.finetune import finetune as finetune
    from embedcache.probing.efficiency import label_efficiency as label_efficiency
    from embedcache.probing.estimators.logistic import (
        ProbeLogisticRegression as ProbeLogisticRegression,
    )
    from embedcache.probing.predict import predict as predict
    from embedcache.probing.probe import probe as probe
    from embedcache.probing.shift import shift as shift
    from embedcache.protocol.protocol import Protocol as Protocol
    from embedcache.reporting.report import report as report
    from embedcache.store.exchange.transfer import export_features as export_features
    from embedcache.store.exchange.transfer import import_features as import_features
    from embedcache.store.exchange.transfer import load_features as load_features
    from embedcache.store.merge import merge as merge
    from embedcache.store.pack import pack as pack
    from embedcache.store.places import root_at as root_at
    from embedcache.store.reader import FeatureStore as FeatureStore
    from embedcache.store.reader import open_store as open_store
    from embedcache.store.subset import Selection as Selection
    from embedcache.store.subset import subset as subset
    from embedcache.store.sync import pull as pull
    from embedcache.store.sync import push as push
    from embedcache.store.verify import verify as verify

_PLACES = {
    "Cohort": "embedcache.cohorts.cohort",
    "finetune": "embedcache.finetuning.finetune",
    "inspect": "embedcache.cohorts.inspect",
    "Inspection": "embedcache.cohorts.inspection",
    "read_cohort": "embedcache.cohorts.reference",
    "Contract": "embedcache.contract",
    "Preprocessing": "embedcache.contract",
    "load_encoder": "embedcache.encoders.resolve",
    "EncoderSpec": "embedcache.encoders.spec",
    "compare": "embedcache.evaluation.compare",
    "evaluate": "embedcache.evaluation.evaluate",
    "evaluate_table": "embedcache.evaluation.foreign",
    "extract": "embedcache.extraction.extract",
    "label_efficiency": "embedcache.probing.efficiency",
    "predict": "embedcache.probing.predict",
    "probe": "embedcache.probing.probe",
    "ProbeLogisticRegression": "embedcache.probing.estimators.logistic",
    "shift": "embedcache.probing.shift",
    "Protocol": "embedcache.protocol.protocol",
    "report": "embedcache.reporting.report",
    "export_features": "embedcache.store.exchange.transfer",
    "import_features": "embedcache.store.exchange.transfer",
    "load_features": "embedcache.store.exchange.transfer",
    "merge": "embedcache.store.merge",
    "pack": "embedcache.store.pack",
    "root_at": "embedcache.store.places",
    "FeatureStore": "embedcache.store.reader",
    "open_store": "embedcache.store.reader",
    "Selection": "embedcache.store.subset",
    "subset": "embedcache.store.subset",
    "pull": "embedcache.store.sync",
    "push": "embedcache.store.sync",
    "verify": "embedcache.store.verify",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'embedcache' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted(_PLACES)

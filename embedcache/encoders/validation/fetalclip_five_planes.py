"""FetalCLIP's zero-shot predictions of five planes: all 8,187 images of FETAL_PLANES_DB but Other.

BioMedIA-MBZUAI/FetalCLIP, zero_shot_planes_db/test_five_planes.py. Prompts are of nine views, so a
prediction may also be one that no image carries (kidney, spine, …); each view's five prompts are
embedded, normalised, averaged and normalised; the nearest view wins. Labels are the table's rows in
its order. The authors ran it on a GPU in half precision (autocast).

Their files are fetched when they are asked for, from the commit that they were read at: their
licence (CC-BY-NC) does not let us carry them along.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedcache.download import Remote
from embedcache.encoders.validation.reference import Published, ValidationReference, read_json
from embedcache.errors import SchemaError
from embedcache.schema import from_plain

_COMMIT = "bb6d073a52054c0451b525f07ebf5264dd12ed48"
_FOLDER = f"https://raw.githubusercontent.com/BioMedIA-MBZUAI/FetalCLIP/{_COMMIT}"
_MEND = "download it from github.com/BioMedIA-MBZUAI/FetalCLIP (zero_shot_planes_db) and name it: "


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    """test_five_planes_prediction.json."""

    prediction: tuple[str, ...]
    label: tuple[str, ...]


def read(file: Path) -> Published:
    """Read test_five_planes_prediction.json.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is not in the authors' layout.
    """
    content = from_plain(_File, read_json(file), where=file.name)
    if len(content.prediction) != len(content.label):
        problem = f"has {len(content.prediction):,} entries, label {len(content.label):,}"
        raise SchemaError(file.name, "prediction", problem)
    return Published(label=content.label, predicted=content.prediction)


def read_prompts(file: Path) -> dict[str, tuple[str, ...]]:
    """Read test_five_planes_prompts.json: sentences by view; raises as `read`."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise SchemaError(file.name, "", "is not a table of prompts")
    prompts = {}
    for view, sentences in content.items():
        sound = isinstance(sentences, list) and all(isinstance(text, str) for text in sentences)
        if not sound or not sentences:
            raise SchemaError(file.name, view, "is no list of prompts")
        prompts[view] = tuple(sentences)
    return prompts


REFERENCE = ValidationReference(
    name="five-planes",
    encoder="fetalclip",
    citation="Maani et al., FetalCLIP, 2025, arXiv:2502.14807",
    cohort="fetal-planes-db",
    words={
        "Fetal abdomen": "abdomen",
        "Fetal brain": "brain",
        "Fetal femur": "femur",
        "Fetal thorax": "heart",
        "Maternal cervix": "cervix",
    },
    predictions=Remote(
        url=f"{_FOLDER}/zero_shot_planes_db/test_five_planes_prediction.json",
        size=219_000,
        mend=f"{_MEND}--reference FILE",
    ),
    prompts=Remote(
        url=f"{_FOLDER}/zero_shot_planes_db/test_five_planes_prompts.json",
        mend=f"{_MEND}--prompts FILE",
    ),
    read=read,
    read_prompts=read_prompts,
)

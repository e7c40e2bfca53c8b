"""Side by side with eva (kaiko-eva 0.4.5): the same images, the same ViT-B/32, the same machine.

    python benchmarks/eva.py [--images 888] [--rounds 3] [--venv FOLDER]

The network's weights are random and come from one file that both read. eva runs in a virtual
environment of its own, which this script makes: `kaiko-eva[vision]==0.4.5`, `jsonargparse` held at
4.31.0, `torch==2.13.0` from the CPU index that pip knows. PyPI's torchvision cannot be imported
beside that torch (see embedcache/encoders/torchvision_repair.py), so that environment gets a
`sitecustomize.py` that declares the two operators which it misses; without it eva does not start.

What is compared, each as a command of its own, walls by the clock:

- `rate`: images a second. Each side encodes all images and 32 of them; the difference of the two
  walls leaves out what starting Python and loading the model cost.
- `whole`: `eva predict_fit` against `embedcache extract` and `embedcache probe`. eva fits its
  linear head once, 1,000 steps of AdamW (its own configurations ask for 12,500 steps and five
  runs); ours tunes and fits five folds and computes intervals.
- `cached`: our second extraction, all of it in the store, against `eva predict` on the same images.
- `half`: bfloat16, where the processor multiplies it; else it says that it does not.

Both get batches of 32 and two processes or threads that read; eva on all cores as torch uses them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import COHORTS, record

from embedcache.cohorts.reference import read_cohort

PACKAGES = ("kaiko-eva[vision]==0.4.5", "jsonargparse[omegaconf]==4.31.0")
PINS = "torch==2.13.0\ntorchvision==0.28.0\n"
FEW, BATCH, STEPS = 32, 32, 1000
NETWORK = "vit_base_patch32_224"

#: Becomes that environment's sitecustomize.py: torchvision is repaired as it is first imported.
REPAIR = """
import importlib.abc, sys

class Repair(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch
            self.library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                self.library.define(operator + signature)
            kept.append(self.library)
        return None

kept = []
sys.meta_path.insert(0, Repair())
"""

#: eva's side: a folder of images as a data set of eva's, and the network from its file.
SIDE = """
import csv
from pathlib import Path

import timm
import torch
from eva.vision.data.datasets.vision import VisionDataset
from eva.vision.utils import io
from safetensors.torch import load_file


class Folder(VisionDataset):
    def __init__(self, root: str, split: str, transforms=None) -> None:
        super().__init__(transforms=transforms)
        self._root, self._split, self._rows = root, split, []

    def configure(self) -> None:
        with open(Path(self._root) / "table.csv", newline="") as file:
            self._rows = [row for row in csv.DictReader(file) if row["split"] == self._split]

    def filename(self, index: int) -> str:
        return self._rows[index]["file"]

    def load_data(self, index: int):
        return io.read_image_as_tensor(str(Path(self._root) / self.filename(index)))

    def load_target(self, index: int):
        return torch.tensor(int(self._rows[index]["label"]), dtype=torch.long)

    def __len__(self) -> int:
        return len(self._rows)


def network(file: str) -> torch.nn.Module:
    model = timm.create_model("vit_base_patch32_224", num_classes=0)
    model.load_state_dict(load_file(file))
    return model
"""


def main() -> None:
    options = arguments()
    os.environ["EMBEDCACHE_KEY"] = "5e" * 32
    with tempfile.TemporaryDirectory() as place:
        bench = Bench(Path(place), environment(options.venv or Path(place) / "venv"))
        bench.images("all", options.images)
        bench.images("few", FEW)
        record("eva", figures(bench, options.rounds))


def environment(folder: Path) -> Path:
    """The Python of eva, in a virtual environment of its own."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        constraints = folder / "constraints.txt"
        constraints.write_text(PINS)
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", constraints]
        subprocess.run([*install, "torch==2.13.0"], check=True)
        subprocess.run([*install, *PACKAGES], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "sitecustomize.py").write_text(REPAIR)
    return python


class Bench:
    """The images, the weights, and both sides' commands over them."""

    def __init__(self, place: Path, python: Path) -> None:
        """See the class."""
        self.place = place
        self.python = python
        self.weights = place / "weights.safetensors"
        self.write_weights()
        (place / "eva_side.py").write_text(SIDE)

    def write_weights(self) -> None:
        """Write the network's random start."""
        import torch
        from safetensors.torch import save_file

        from embedcache.encoders.torchvision_repair import repair_torchvision

        repair_torchvision()
        import timm

        torch.manual_seed(0)
        model = timm.create_model(NETWORK, num_classes=0)
        save_file(model.state_dict(), self.weights)

    def images(self, name: str, number: int) -> None:
        """A folder of real images by class, with a table for eva and a cohort file for us."""
        cohort = read_cohort(f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}")
        chosen = np.linspace(0, len(cohort) - 1, min(number, len(cohort))).astype(int)
        root, lines = self.place / name, ["file,label,split"]
        for row in chosen.tolist():
            source = cohort.images[row].path
            file = Path(f"class{cohort.label[row]}") / f"p{cohort.patient[row]}_{source.name}"
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, root / file)
            # By patient, so that eva's validation images are of patients that it has not seen.
            split = "val" if int(cohort.patient[row]) % 5 == 0 else "train"
            lines.append(f"{file},{cohort.label[row]},{split}")
        (root / "table.csv").write_text("\n".join(lines) + "\n")
        pattern = "p([0-9]+)_"
        (self.place / f"{name}.toml").write_text(
            f'kind = "folder"\nplace = "{root}"\n[patterns]\npatient = "{pattern}"\n'
        )

    def eva(self, command: str, name: str) -> float:
        """Wall seconds of an eva command, from nothing."""
        out = Path(tempfile.mkdtemp(dir=self.place))
        config = out / "config.json"  # JSON is YAML
        config.write_text(json.dumps(configuration(self.place / name, out, self.weights)))
        words = [self.python.parent / "eva", command, "--config", config]
        return clocked(words, {"PYTHONPATH": str(self.place)})

    def extract(self, name: str, store: Path, variant: str = "") -> float:
        """Wall seconds of our extraction."""
        encoder = f"timm:{NETWORK}{variant}={self.weights}"
        cohort = f"spain={self.place / name}.toml"
        words = ["extract", store, "--cohort", cohort, "--encoder", encoder, "--device", "cpu"]
        return ours([*words, "--batch-size", str(BATCH)])

    def probe(self, store: Path) -> float:
        """Wall seconds of our probe."""
        return ours(["probe", store, "--train", "spain", "--out", store.parent / "results"])

    def store(self) -> Path:
        """A place for a store that is not there yet."""
        return Path(tempfile.mkdtemp(dir=self.place)) / "s.zarr"


def configuration(images: Path, out: Path, weights: Path) -> dict[str, object]:
    """eva's, offline: embeddings to files, then a linear head on them."""
    crop = {"class_path": "eva.vision.data.transforms.ResizeAndCrop", "init_args": {"size": 224}}

    def folder(split: str) -> dict[str, object]:
        init = {"root": str(images), "split": split, "transforms": crop}
        return {"class_path": "eva_side.Folder", "init_args": init}

    def embedded(split: str) -> dict[str, object]:
        init = {"root": str(out / "embeddings"), "manifest_file": "manifest.csv", "split": split}
        return {
            "class_path": "eva.core.data.datasets.EmbeddingsClassificationDataset",
            "init_args": init,
        }

    network = {
        "class_path": "eva.core.models.ModelFromFunction",
        "init_args": {"path": "eva_side.network", "arguments": {"file": str(weights)}},
    }
    writer = {
        "class_path": "eva.core.callbacks.ClassificationEmbeddingsWriter",
        "init_args": {
            "output_dir": str(out / "embeddings"),
            "dataloader_idx_map": {0: "train", 1: "val"},
            "backbone": network,
        },
    }
    head = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 768, "out_features": 4}}
    reader = {"batch_size": BATCH, "num_workers": 2}
    return {
        "trainer": {
            "class_path": "eva.Trainer",
            "init_args": {
                "default_root_dir": str(out / "logs"),
                "accelerator": "cpu",
                "max_steps": STEPS,
                "callbacks": [writer],
            },
        },
        "model": {
            "class_path": "eva.HeadModule",
            "init_args": {
                "head": head,
                "criterion": "torch.nn.CrossEntropyLoss",
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.0003}},
            },
        },
        "data": {
            "class_path": "eva.DataModule",
            "init_args": {
                "datasets": {
                    "train": embedded("train"),
                    "val": embedded("val"),
                    "predict": [folder("train"), folder("val")],
                },
                "dataloaders": {
                    "train": {"batch_size": 256, "num_workers": 2, "shuffle": True},
                    "val": {"batch_size": 256, "num_workers": 2},
                    "predict": reader,
                },
            },
        },
    }


def figures(bench: Bench, rounds: int) -> dict[str, object]:
    images = sum(1 for _ in bench.place.joinpath("all").glob("class*/*"))
    walls: dict[str, list[float]] = {}

    def note(name: str, run: Callable[[], float]) -> None:
        walls.setdefault(name, []).append(run())

    for _ in range(rounds):
        store = bench.store()
        note("eva_few", lambda: bench.eva("predict", "few"))
        note("eva_all", lambda: bench.eva("predict", "all"))
        note("eva_whole", lambda: bench.eva("predict_fit", "all"))
        note("ours_few", lambda: bench.extract("few", bench.store()))
        note("ours_all", lambda store=store: bench.extract("all", store))
        note("ours_again", lambda store=store: bench.extract("all", store))
        note("ours_probe", lambda store=store: bench.probe(store))
        note("ours_again_in_process", lambda store=store: again(bench, store))
    more = images - FEW
    eva = [more / (a - f) for a, f in zip(walls["eva_all"], walls["eva_few"], strict=True)]
    our = [more / (a - f) for a, f in zip(walls["ours_all"], walls["ours_few"], strict=True)]
    whole = [a + p for a, p in zip(walls["ours_all"], walls["ours_probe"], strict=True)]
    return {
        "images": images,
        "batch": BATCH,
        "eva_steps": STEPS,
        "wall_seconds": {name: [round(one, 2) for one in each] for name, each in walls.items()},
        "rate": {"eva": middle(eva), "ours": middle(our), "ratio": ratio(our, eva), "bar": 1.0},
        "whole": {"ratio": ratio(whole, walls["eva_whole"]), "bar": 0.5},
        "cached": {
            "command": ratio(walls["eva_all"], walls["ours_again"]),
            "without_starting_python": ratio(walls["eva_all"], walls["ours_again_in_process"]),
            "bar": 50,
        },
        "half": half(bench) if multiplies_bfloat16() else "this processor has no bfloat16",
    }


def again(bench: Bench, store: Path) -> float:
    """Our second run in this process: what it does, without what starting Python takes."""
    from embedcache.extraction.extract import extract

    started = time.perf_counter()
    encoder = f"timm:{NETWORK}={bench.weights}"
    extract(store, [f"spain={bench.place / 'all'}.toml"], [encoder], device="cpu")
    return time.perf_counter() - started


def multiplies_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo").read_text()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def half(bench: Bench) -> dict[str, object]:
    """Ours in bfloat16 against eva in float32, and how near its features are to float32."""
    from embedcache.store.reader import open_store

    store = bench.store()
    bench.extract("all", store)
    few = bench.extract("few", bench.store(), "@bf16")
    wall = bench.extract("all", store, "@bf16")
    opened = open_store(store)
    full, short = (
        opened.features(one.id, np.arange(len(opened)))
        for one in sorted(opened.feature_sets(), key=lambda one: one.contract.precision != "fp32")
    )
    cosine = (full * short).sum(1) / np.linalg.norm(full, axis=1) / np.linalg.norm(short, axis=1)
    eva = bench.eva("predict", "all") - bench.eva("predict", "few")
    return {
        "ratio": round(eva / (wall - few), 3),
        "bar": 1.5,
        "least_cosine_to_fp32": float(cosine.min()),
    }


def ours(words: list[object]) -> float:
    return clocked([sys.executable, "-m", "embedcache", *words], {})


def clocked(words: list[object], more: dict[str, str]) -> float:
    environment = {**os.environ, **more}
    started = time.perf_counter()
    done = subprocess.run(
        [str(word) for word in words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return time.perf_counter() - started


def middle(rates: list[float]) -> float:
    return round(statistics.median(rates), 2)


def ratio(over: list[float], under: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(over, under, strict=True)), 3)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=888)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--venv", type=Path, help="where eva's environment is kept")
    return parser.parse_args()


if __name__ == "__main__":
    main()

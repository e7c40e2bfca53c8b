"""An encoder of one's own, from a file or a package, runs as a listed one does."""

from __future__ import annotations

import hashlib
import pickle
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from embedcache import registry
from embedcache.cli import app
from embedcache.encoders.named import registered
from embedcache.encoders.resolve import ResolvedEncoder, contract_of, load_encoder, resolve
from embedcache.encoders.spec import EncoderSpec
from embedcache.errors import PathMissingError, PluginUnusableError, VariantUnknownError
from embedcache.executor import run_units
from embedcache.store.reader import open_store

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "bring-your-own-encoder.md"

ARITHMETIC = """
import numpy as np
from embedcache.contract import Preprocessing
from embedcache.encoders.spec import ArithmeticSpec

SPEC = ArithmeticSpec(
    name="whatever", dim=1, architecture="mean", pooling="mean",
    preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,), colour="grey"),
    compute=lambda batch: batch.reshape(len(batch), -1).mean(1, np.float32, keepdims=True),
)
"""


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [content for named, content in fenced if named == language]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The page's own encoder."""
    (code,) = blocks("python")
    path = tmp_path / "my_encoder.py"
    path.write_text(code)
    return path


def test_the_page_s_commands_run_from_extraction_to_report(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    for name, size in (("home", 120), ("abroad", 60)):
        about = f'kind = "synthetic"\nplace = "{name}"\nsize = {size}\n'
        Path(f"{name}.toml").write_text(about)
    for line in blocks("")[0].replace("\\\n", " ").strip().splitlines():
        # The page's cohorts with half their pictures: drawing one takes as long as encoding it.
        words = [re.sub(r"synthetic:(\w+)", r"\1.toml", word) for word in shlex.split(line)[1:]]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert "RANDOM WEIGHTS" in (file.parent / "report.html").read_text("utf-8")
    names = {one.name for one in open_store(file.parent / "store.zarr").feature_sets()}
    assert names == {"my_encoder.py:make", "pixels"}
    stored = (file.parent / "store.zarr").rglob("*")
    assert not [one for one in stored if one.is_file() and bytes(file.parent) in one.read_bytes()]


def test_the_code_of_a_file_is_its_sha256(file: Path) -> None:
    before = contract_of(f"{file}:make=random")
    assert before.code == f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    moved = file.with_name("elsewhere") / file.name
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    assert contract_of(f"{moved}:make=random") == before
    file.write_bytes(file.read_bytes() + b"\n# a word\n")
    assert contract_of(f"{file}:make=random").feature_id != before.feature_id


def test_a_file_s_encoder_takes_weights_variants_and_precision(file: Path) -> None:
    import torch

    random = resolve(f"{file}:make=random:7")
    assert isinstance(random.spec, EncoderSpec)
    assert random.spec.untrained is not None
    state = random.spec.untrained(7) | {"classifier.weight": torch.zeros(5, 64)}
    torch.save(state, file.with_name("w.pth"))
    trained = load_encoder(f"{file}:make={file.with_name('w.pth')}")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    batch = trained.prepare(picture)[None]
    assert np.array_equal(trained.encode(batch), random.build().encode(batch))
    assert resolve(f"{file}:make@bf16=random").name == "my_encoder.py:make@bf16"
    with pytest.raises(VariantUnknownError, match="@cls"):
        resolve(f"{file}:make@cls=random")


def encode(encoder: ResolvedEncoder) -> bytes:
    return encoder.build().encode(np.full((1, 3, 128, 128), 9, np.uint8)).tobytes()


def test_a_file_s_encoder_reaches_worker_processes_without_its_file(file: Path) -> None:
    resolved = resolve(f"{file}:make@bf16=random")
    file.unlink()
    # Other processes: what the file defines is not importable there.
    found = list(run_units(encode, [resolved, resolved], workers=2))
    assert found == [encode(resolved)] * 2


def test_a_file_s_encoder_survives_pickling_to_a_fresh_interpreter(file: Path) -> None:
    resolved = resolve(f"{file}:make=random")
    file.unlink()
    code = (
        "import sys, pickle, numpy as np\n"
        "encoder = pickle.load(sys.stdin.buffer)\n"
        "batch = np.full((1, 3, 128, 128), 9, np.uint8)\n"
        "sys.stdout.buffer.write(encoder.build().encode(batch).tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(resolved), capture_output=True, check=True
    )
    assert done.stdout == encode(resolved)


def test_a_specification_may_stand_in_the_file_as_a_value(tmp_path: Path) -> None:
    (tmp_path / "mean.py").write_text(ARITHMETIC)
    encoder = load_encoder(f"{tmp_path}/mean.py:SPEC")
    assert encoder.name == "mean.py:SPEC"
    assert encoder.encode(np.full((2, 1, 8, 8), 5, np.uint8)).tolist() == [[5.0], [5.0]]
    again = pickle.loads(pickle.dumps(resolve(f"{tmp_path}/mean.py:SPEC")))
    assert again.contract == encoder.contract


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1", "the file defines no make"),
        ("make = 3", "make is a int, no EncoderSpec"),
        ("def make(): return 'usfm'", "make is a str, no EncoderSpec"),
        ("def make(): raise OSError('no disk')", "it fails with OSError: no disk"),
        ("import absent_module", "it fails with ModuleNotFoundError: No module named"),
        ("def make(:", "it fails with SyntaxError"),
        ("def make(seed): ...", "it fails with TypeError: make"),
    ],
)
def test_a_file_that_makes_no_encoder_says_why(source: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(PluginUnusableError, match=rf"^bad\.py:make: {problem}.*own-encoder\.md"):
        resolve(f"{tmp_path}/bad.py:make")
    with pytest.raises(PathMissingError, match="the encoder's file"):
        resolve(f"{tmp_path}/absent.py:make")


def test_the_page_s_entry_point_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed as pip lays it out: a package, and its metadata beside it."""
    (project,) = map(tomllib.loads, blocks("toml"))
    about = project["project"]
    ((name, value),) = about["entry-points"]["embedcache.encoders"].items()
    package, module = value.partition(":")[0].split(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    code = blocks("python")[0]
    (tmp_path / package / f"{module}.py").write_text(code + "\n\nSPEC = make()\n")
    metadata = tmp_path / f"{package}-{about['version']}.dist-info"
    metadata.mkdir()
    version = f"Name: {about['name']}\nVersion: {about['version']}\n"
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\n{version}")
    (metadata / "entry_points.txt").write_text(f"[embedcache.encoders]\n{name} = {value}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._entries.cache_clear()
    try:
        assert registered(name).code == "my-clinic-encoders 1.0"
        assert contract_of(f"{name}=random").code == "my-clinic-encoders 1.0"
        assert "torch" not in (tmp_path / package / "__init__.py").read_text()
    finally:
        registry._entries.cache_clear()

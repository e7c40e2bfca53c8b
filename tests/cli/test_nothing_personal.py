"""From images to report: no file and no line says who, where, or on whose machine."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

#: What must never be seen again; a part of a name is as bad as a name.
PATIENT, FILE, FOLDER = "Zebediah-Quuxworth", "scan-of-mr-fnord", "ward-of-dr-grault"
USER, HOST, HOME = "garply-user", "waldo-host.example.org", "home-of-thud"

#: Runs commands as `main` does, on a machine with a name, in one process.
DRIVER = f"""
import json, platform, socket, sys
socket.gethostname = socket.getfqdn = platform.node = lambda *_: {HOST!r}
from embedcache.cli import main
for line in sys.stdin:
    sys.argv = ["embedcache", *json.loads(line)]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
"""

COMMANDS = [
    "extract store.zarr --cohort home=study.toml --encoder pixels --allow-failures",
    "extract store.zarr --cohort home=study.toml --encoder pixels --allow-failures --json",
    "cohorts inspect home=study.toml",
    "cohorts inspect home=study.toml --json",
    "probe store.zarr --train home --out results --folds 3",
    "probe store.zarr --train home --out results --folds 3 --json",
    "compare results --json",
    "report results --out report.html",
    "store add-labels store.zarr --cohort home --labels home=study.toml --json",
    "store ls store.zarr",
    "store ls store.zarr --json",
    "store inspect store.zarr --json",
    "store inspect store.zarr --privacy",
    "store inspect store.zarr --privacy --json",
    "store verify store.zarr --json",
    "store subset store.zarr -o part.zarr --classes brain --json",
    "store subset store.zarr -o keyed.zarr --keyed-digests --json",
    "store merge store.zarr keyed.zarr -o both.zarr --rename home=keyed --json",
    "store gc both.zarr --apply --json",
    "store export store.zarr --encoder pixels --to hdf5 -o out.h5",
    "store export store.zarr --encoder pixels --to npy-parquet -o out",
    "store import out.h5 --from hdf5 -o back.zarr --json",
    "store push store.zarr pushed.zarr",
    "store push store.zarr pushed.zarr --json",
    "store push store.zarr {here}/sent.zarr --dry-run",
    "store push store.zarr {here}/sent.zarr",
    "store push store.zarr {here}/sent.zarr",
    "store pull {here}/sent.zarr pulled.zarr",
    "store pull {here}/sent.zarr pulled.zarr --repair --json",
    "store pack store.zarr packed.zip",
    "store pull packed.zip unpacked.zarr",
    "store ls packed.zip",
    "store verify packed.zip",
]


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A cohort full of names, and all that the commands made of it."""
    folder = tmp_path_factory.mktemp(FOLDER)
    (folder / FILE).mkdir()
    draw, lines = np.random.default_rng(0), ["image,label,patient,machine"]
    for row in range(32):
        label = ("brain", "femur")[row % 2]
        name = f"{FILE}/{FILE}-{row}.png"
        pixels = draw.integers(0, 128, (24, 24), np.uint8) + np.uint8(100 * (row % 2))
        Image.fromarray(pixels).save(folder / name)
        lines.append(f"{name},{label},{PATIENT}-{row // 4},Voluson")
    (folder / FILE / f"{FILE}-30.png").write_bytes(b"")
    whole = (folder / FILE / f"{FILE}-31.png").read_bytes()
    (folder / FILE / f"{FILE}-31.png").write_bytes(whole[: len(whole) // 2])
    (folder / f"{FILE}.csv").write_text("\n".join(lines))
    (folder / "study.toml").write_text(f'kind = "table"\nplace = "{FILE}.csv"\n')
    return folder


@pytest.fixture(scope="module")
def said(work: Path) -> str:
    """What the commands printed, on both streams."""
    home, here = work / HOME, work.as_uri()
    settings = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "USER": USER}
    settings |= {"LOGNAME": USER, "HOSTNAME": HOST, "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "EMBEDCACHE_KEY"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input="\n".join(json.dumps(line.format(here=here).split()) for line in COMMANDS),
        cwd=work,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def texts(work: Path) -> Iterator[tuple[str, bytes]]:
    """Everything that was made, by its name, with what is packed unpacked."""
    import pyarrow.parquet as pq

    given = {work / "study.toml", work / f"{FILE}.csv"}
    for file in sorted(work.rglob("*")):
        name = file.relative_to(work).as_posix()
        if not file.is_file() or name.startswith((f"{FILE}/", f"{HOME}/")) or file in given:
            continue
        yield name, name.encode() + file.read_bytes()
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            held = f"{table.schema.metadata} {table.schema} {table.to_pylist()}"
            yield f"{name} (unpacked)", held.encode()
        if file.suffix == ".html":
            coded = re.findall(rb"base64,([A-Za-z0-9+/=]+)", file.read_bytes())
            yield f"{name} (unpacked)", b"\n".join(map(base64.b64decode, coded))
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as packed:
                held = [repr(member).encode() + packed.read(member) for member in packed.filelist]
            yield f"{name} (unpacked)", b"\n".join(held)
        if file.suffix == ".h5":
            with h5py.File(file) as opened:
                yield f"{name} (unpacked)", opened["about"][()].tobytes()


def told(content: bytes, work: Path) -> list[str]:
    """Which of the words some bytes hold, in any case and in the usual encodings."""
    words = [PATIENT, "Quuxworth", FILE, "fnord", FOLDER, USER, HOST, "waldo", HOME]
    words += [str(work), str(Path.home()), str(Path(sys.prefix))]
    secret = (work / HOME / ".config/embedcache/key").read_text().strip()
    raw = [secret.encode(), bytes.fromhex(secret)]
    raw += [base64.b64encode(bytes.fromhex(secret))]
    raw += [form for word in words for form in (word.encode(), word.encode("utf-16-le"))]
    held = content.lower()
    return [str(form) for form in raw if len(form) > 5 and form.lower() in held]


def test_no_file_that_was_made_tells_who_or_where(work: Path, said: str) -> None:
    found = dict(texts(work))
    made = {name.split("/")[0] for name in found}
    assert {"store.zarr", "results", "report.html", "out.h5", "out", "both.zarr"} <= made
    assert {"pushed.zarr", "sent.zarr", "pulled.zarr", "packed.zip", "unpacked.zarr"} <= made
    assert {name: words for name, text in found.items() if (words := told(text, work))} == {}


def test_no_line_that_was_printed_tells_who_or_where(work: Path, said: str) -> None:
    assert "pixels" in said
    assert told(said.encode(), work) == []


def test_the_search_finds_what_is_there(work: Path, said: str) -> None:
    assert told((work / f"{FILE}.csv").read_bytes(), work)
    assert told(f"in {work}".encode(), work)
    assert told(b"x" + PATIENT.upper().encode("utf-16-le"), work)

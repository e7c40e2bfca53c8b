"""Is this machine ready, and if not: the one command that mends each thing. Changes nothing."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from importlib.metadata import requires
from pathlib import Path

from embedcache.encoders.catalogue import Broken, Listing, catalogue
from embedcache.encoders.libraries import Asking, Libraries, installed_version
from embedcache.encoders.named import OURS
from embedcache.encoders.weights import weights_folder
from embedcache.errors import KeyUnusableError
from embedcache.provenance import Provenance, provenance
from embedcache.store.pseudonyms import VARIABLE, key_file, owner_key

#: How programs are told of proxies, certificates and the hub; values may hold passwords.
VARIABLES = (
    *("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("https_proxy", "http_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HF_ENDPOINT", "HF_HOME", "HF_TOKEN", "HF_HUB_OFFLINE", "EMBEDCACHE_WEIGHTS"),
)
#: Of these, which must name a file or folder.
_PATHS = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: What each extra brings, by a distribution of it.
EXTRAS = {
    "weights": ("gdown", "weights on Google Drive"),
    "opencv": ("opencv-python-headless", "variants that resize with OpenCV"),
    "lora": ("peft", "finetune --tune lora"),
    "tensorboard": ("tensorboard", "finetune --tensorboard"),
    "cluster": ("distributed", "--scheduler"),
    "s3": ("obstore", "stores in a bucket"),
}
#: Bytes below which work is likely to end: the largest weight file that is listed has 3.4 GB, and
#: ViT-L with a batch of 32 takes two.
LITTLE_DISK, LITTLE_MEMORY = 5 * 10**9, 2 * 10**9
_INDEX = "--index-url https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that will fail, and what mends it.

    Attributes:
        what: in a sentence.
        mend: a command.
        fatal: whether everything needs it.
    """

    what: str
    mend: str
    fatal: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnosis:
    """This machine, as far as embedcache depends on it. Holds no path of it.

    Attributes:
        provenance: versions and system.
        libraries: torch, torchvision and devices.
        memory: free bytes; None if the system does not say.
        disk: free bytes by place: `store`, `weights`.
        variables: which of `VARIABLES` are set.
        key: `EMBEDCACHE_KEY`, `file`, `not made yet` or `unusable`.
        extras: which optional packages are installed.
        ready: encoders that can run as they are.
        missing: what each other encoder needs.
        problems: what will fail.
    """

    provenance: Provenance
    libraries: Libraries
    memory: int | None
    disk: dict[str, int]
    variables: tuple[str, ...]
    key: str
    extras: dict[str, bool]
    ready: tuple[str, ...]
    missing: dict[str, str]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def sound(self) -> bool:
        """Whether nothing is broken that everything needs."""
        return not any(problem.fatal for problem in self.problems)


def diagnose(store: Path = Path()) -> Diagnosis:
    """Look at this machine.

    Args:
        store: where features are, or will be, stored.
    """
    asking = Asking()
    listed, broken = catalogue()
    disk = {"store": _free_disk(store), "weights": _free_disk(weights_folder())}
    memory = _free_memory()
    key, trouble = _key()
    libraries = asking.answer()
    problems = (
        *_packages(),
        *_libraries(libraries),
        *_broken(broken),
        *trouble,
        *_variables(),
        *_room(disk, memory),
    )
    return Diagnosis(
        provenance=provenance(libraries.devices[0] if libraries.devices else "none"),
        libraries=libraries,
        memory=memory,
        disk=disk,
        variables=tuple(name for name in VARIABLES if os.environ.get(name)),
        key=key,
        extras={extra: bool(installed_version(package)) for extra, (package, _) in EXTRAS.items()},
        ready=tuple(one.name for one in listed if one.weights.state != "missing"),
        missing={one.name: _needs(one) for one in listed if one.weights.state == "missing"},
        problems=tuple(problems),
    )


def _needs(one: Listing) -> str:
    return one.weights.mend.removeprefix("run ")


def _packages() -> list[Problem]:
    """Required distributions that are not installed, torch's own aside."""
    if not installed_version(OURS):
        what = f"{OURS} is on Python's path and not installed, so that no encoder is found"
        return [Problem(what=what, mend="pip install -e .", fatal=True)]
    lines = [line for line in requires(OURS) or () if "extra ==" not in line]
    names = [re.match(r"[A-Za-z0-9._-]+", line) for line in lines]
    gone = [
        name[0]
        for name in names
        if name and name[0] not in {"torch", "torchvision"} and not installed_version(name[0])
    ]
    return [
        Problem(what=f"the package {name} is not installed", mend=f"pip install {name}", fatal=True)
        for name in gone
    ]


def _libraries(found: Libraries) -> list[Problem]:
    if found.problem:
        what = f"torch cannot be imported: {found.problem}"
        mend = f"pip install --force-reinstall torch torchvision {_INDEX}"
        return [Problem(what=what, mend=mend, fatal=True)]
    problems = []
    if found.torchvision == "absent":
        what = "torchvision is not installed, and timm and open_clip import it"
        mend = f"pip install --no-deps torchvision=={_paired(found.torch)}"
        problems.append(Problem(what=what, mend=mend, fatal=True))
    if found.torchvision == "mismatched":
        what = f"torchvision wants torch {found.wanted}, and {found.torch} is installed"
        mend = f"pip install --no-deps torchvision=={_paired(found.torch)}"
        problems.append(Problem(what=what, mend=mend, fatal=True))
    if found.build == "CPU" and Path("/proc/driver/nvidia/version").exists():
        what = "this machine has an NVIDIA driver, and torch is a build without CUDA"
        problems.append(Problem(what=what, mend="pip install --force-reinstall torch torchvision"))
    return problems


def _paired(torch: str) -> str:
    """The torchvision beside a torch: 0.15 came with 2.0, and both have counted on together."""
    major, minor = torch.split(".")[:2]
    return f"0.{int(minor) + 15}.*" if major == "2" else "*"


def _broken(broken: tuple[Broken, ...]) -> list[Problem]:
    return [
        Problem(
            what=f"the encoder {one.name} of the package {one.package or 'unknown'} cannot be "
            f"loaded: {one.problem}",
            mend=f"pip install -U {one.package}" if one.package else "pip check",
        )
        for one in broken
    ]


def _key() -> tuple[str, list[Problem]]:
    """Which key makes pseudonyms; none is made."""
    given = VARIABLE in os.environ
    if not given and not key_file().exists():
        return "not made yet", []
    try:
        owner_key()
    except KeyUnusableError as error:
        mend = f"unset {VARIABLE}" if given else f"chmod 600 {_home(str(key_file()))}"
        return "unusable", [Problem(what=_home(str(error)), mend=mend, fatal=True)]
    return VARIABLE if given else "file", []


def _variables() -> list[Problem]:
    """Certificates that a variable names and that are not there: every download would fail."""
    named = [(name, os.environ.get(name)) for name in _PATHS]
    return [
        Problem(what=f"{name} names no file or folder that exists", mend=f"unset {name}")
        for name, value in named
        if value and not Path(value).exists()
    ]


def _room(disk: dict[str, int], memory: int | None) -> list[Problem]:
    problems = []
    if disk["weights"] < LITTLE_DISK:
        what = f"only {disk['weights'] / 1e9:.1f} GB are free where weights are kept"
        mend = "export EMBEDCACHE_WEIGHTS=FOLDER_ON_A_LARGER_DISK"
        problems.append(Problem(what=what, mend=mend))
    if disk["store"] < LITTLE_DISK:
        what = f"only {disk['store'] / 1e9:.1f} GB are free where the store is"
        problems.append(Problem(what=what, mend="embedcache store gc STORE"))
    if memory is not None and memory < LITTLE_MEMORY:
        what = f"only {memory / 1e9:.1f} GB of memory are free"
        problems.append(Problem(what=what, mend="embedcache extract … --batch-size 4 --workers 1"))
    return problems


def _free_disk(place: Path) -> int:
    """Free bytes where a folder is, or will be made."""
    there = next(
        parent for parent in (place.absolute(), *place.absolute().parents) if parent.exists()
    )
    return shutil.disk_usage(there).free


def _free_memory() -> int | None:
    """Free bytes of memory, a container's limit included; None if the system does not say."""
    from embedcache.extraction.memory import free_memory

    return free_memory("cpu")


def _home(text: str) -> str:
    """A user's folder holds their name; the shell knows it by a shorter one."""
    return text.replace(str(Path.home()), "~")

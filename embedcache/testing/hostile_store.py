"""A stranger's store: a document with anything anywhere, bytes replaced, and what a reader answers.

For property tests and benchmarks, which need hypothesis.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from embedcache.errors import EmbedcacheError
from embedcache.store.reader import open_store
from embedcache.store.verify import verify

#: Numbers, texts and shapes that break whoever believes them.
WORST: tuple[Any, ...] = (
    *(0, -1, -0.0, 2**31, 2**63, 10**12, 10**400, True, None, 1.5, 1e308),
    *(float("nan"), float("inf")),
    *("", "..", "../../etc", "/etc/passwd", "a\x00b", "a\nb", "\ud800", "x" * 10_000),
    *([], {}, [[]], {"": {}}, {"a\nb": 1}, {"x" * 5000: 1}, [10**12, 10**12], ["..", "/"]),
)
EVIL: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(WORST),
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    ),
)
#: What a reader answers: ("answer", …) or ("error",).
Answers = list[tuple[object, ...]]
#: Folders whose document names things: there, while no manifest tells, fewer cohorts or another
#: name of a label are no damage that anybody could know of.
NAMING = ("manifest", "home", "images", "cohorts", "features")
#: Folders whose document alone says, while no manifest does, how many rows there are by now.
COUNTING = ("digest", "done")


def answers(path: Path) -> Answers:
    """Ask a store for its digests, labels, vectors and soundness: what it says, or that it errs.

    Anything but an `EmbedcacheError` of one line gets through.
    """
    return [_asked(what, path) for what in (_digests, _labels, _vectors, _soundness)]


def everywhere(document: Any) -> Iterator[bytes]:
    """A document as JSON with each of the worst values in each of its places, one at a time."""
    for place in _places(document):
        for evil in WORST:
            yield json.dumps(_put(copy.deepcopy(document), place, copy.deepcopy(evil))).encode()


def is_sentence(text: str) -> bool:
    """Whether an error's text is one line, and not a book."""
    return "\n" not in text and len(text) < 5_000


@contextlib.contextmanager
def evil_document(store: Path, data: st.DataObject) -> Iterator[Path]:
    """Put anything anywhere into one document, half the time with no manifest to tell."""
    file = data.draw(st.sampled_from(sorted(store.rglob("zarr.json"))))
    manifest = store / "manifest/zarr.json"
    whole, known = file.read_bytes(), manifest.read_bytes()
    document = json.loads(whole)
    place = data.draw(st.sampled_from(_places(document)))
    try:
        file.write_text(json.dumps(_put(document, place, data.draw(EVIL))))
        if data.draw(st.booleans()):
            open_all(store)
        yield file
    finally:
        manifest.write_bytes(known)
        file.write_bytes(whole)


@contextlib.contextmanager
def other_bytes(store: Path, data: st.DataObject) -> Iterator[Path]:
    """Replace some bytes of one file by others, fewer or more."""
    file = data.draw(st.sampled_from(sorted(p for p in store.rglob("*") if p.is_file())))
    whole = file.read_bytes()
    start, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 40))
    put = data.draw(st.binary(max_size=60))
    try:
        file.write_bytes(whole[:start] + put + whole[start + length :])
        yield file
    finally:
        file.write_bytes(whole)


def open_all(store: Path) -> None:
    """Let the manifest say that every node is being written: no list then vouches for any."""
    file = store / "manifest/zarr.json"
    with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
        # Where one of these comes, the manifest itself is what was damaged.
        document = json.loads(file.read_bytes())
        nodes = [key[9:-10] for key in document["attributes"]["objects"] if key.count("/") > 1]
        document["attributes"]["open"] = sorted(set(nodes) - {"cohorts", "features"})
        file.write_text(json.dumps(document))


def are_right(found: Answers, right: Answers, document: Path | None = None) -> bool:
    """Whether each answer is an error or what the sound store says; soundness aside.

    Args:
        found: of the store that was hurt.
        right: of the store before.
        document: that was changed, if one was: some of what only it says may be another thing now.
    """
    folder = None if document is None else document.parent
    if folder is not None and (folder.name in NAMING or (folder / "manifest").is_dir()):
        return True
    fewer = folder is not None and folder.name in COUNTING
    return all(
        one in (("error",), ("answer", []), expected) or (fewer and _starts(expected, one))
        for one, expected in zip(found[:3], right, strict=False)
    )


def _starts(whole: tuple[object, ...], part: tuple[object, ...]) -> bool:
    """Whether an answer is the first rows of another."""
    one, other = (each if isinstance(each, list) else [each] for each in (part[1], whole[1]))
    return len(one) == len(other) and all(map(bytes.startswith, other, one))


def _asked(what: Callable[[Path], object], path: Path) -> tuple[object, ...]:
    try:
        return ("answer", what(path))
    except EmbedcacheError as error:
        text = str(error)
        assert is_sentence(text), text[:5_000]
        return ("error",)


def _digests(path: Path) -> bytes:
    return bytes(open_store(path).images.digest)


def _labels(path: Path) -> list[bytes]:
    store = open_store(path)
    return [store.cohort(name).label.tobytes() for name in store.cohorts()]


def _vectors(path: Path) -> list[bytes]:
    store = open_store(path)
    return [store.to_numpy(one.id).tobytes() for one in store.feature_sets()]


def _soundness(path: Path) -> bool:
    return verify(path).sound


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value, as keys from its root."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [path, *(place for key, one in inner for place in _places(one, (*path, key)))]


def _put(value: Any, place: tuple[Any, ...], evil: Any) -> Any:
    if not place:
        return evil
    value[place[0]] = _put(value[place[0]], place[1:], evil)
    return value

"""Weights on Google Drive, by gdown (extra `weights`): a shared file, or one of a shared folder.

Drive answers with a web page where it asks for confirmation, has too many visitors or wants an
account; gdown knows the first, and the others become one sentence with the way by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from embedcache.encoders.weights import DriveFile
from embedcache.errors import DownloadFailedError, PackageMissingError

#: Seconds without a byte, and further attempts at one transfer; gdown waits for ever, and has none.
SILENCE, RETRIES = 60.0, 3


def fetch_from_drive(
    encoder: str, source: DriveFile, into: Path, report: Callable[[int, int | None], None]
) -> None:
    """Download a file; what an interrupted run left beside `into` is gone on with.

    Args:
        encoder: what it is for, in errors.
        source: what is fetched.
        into: where the file goes; must not exist, since gdown would take it for the file.
        report: told of bytes so far and of all, None where Drive does not say.

    Raises:
        PackageMissingError: if gdown is not installed.
        DownloadFailedError: if Drive refuses.
    """
    try:
        import gdown
    except ImportError as error:
        what = f"fetching {encoder} from Google Drive"
        raise PackageMissingError(what, "'embedcache-bench[weights]'") from error
    with _refusals(encoder, source):
        gdown.download(
            id=source.id or _id_in_folder(encoder, source),
            output=str(into),
            quiet=True,
            use_cookies=False,
            resume=True,
            timeout=SILENCE,
            retries=RETRIES,
            progress=report,
        )


def by_hand(encoder: str, source: DriveFile) -> str:
    """What to do where Drive refuses a program."""
    return (
        f"open {source.address} in a browser, save {source.name}, "
        f"and run embedcache encoders add {encoder} FILE"
    )


def _id_in_folder(encoder: str, source: DriveFile) -> str:
    import gdown

    listed = gdown.download_folder(
        id=source.folder, quiet=True, use_cookies=False, skip_download=True, timeout=SILENCE
    )
    # gdown's one type for both answers; without a download it lists entries, never paths.
    entries = [entry for entry in listed if not isinstance(entry, str)]
    names: dict[str, str] = {entry.id: PurePosixPath(entry.path).name for entry in entries}
    found = [key for key, name in names.items() if name == source.name]
    if len(found) != 1:
        held = ", ".join(sorted(names.values())) or "nothing"
        reason = f"its folder holds {len(found)} files of that name ({held})"
        raise DownloadFailedError(source.name, reason, by_hand(encoder, source))
    return found[0]


@contextmanager
def _refusals(encoder: str, source: DriveFile) -> Iterator[None]:
    import gdown
    import requests

    try:
        yield
    except (gdown.exceptions.DownloadError, requests.RequestException) as error:
        # gdown explains at length, and its advice is about its own options.
        refused = isinstance(error, gdown.exceptions.FileURLRetrievalError)
        what = "Google Drive does not give it" if refused else "Google Drive broke off"
        reason = f"{what} ({type(error).__name__})"
        raise DownloadFailedError(source.name, reason, by_hand(encoder, source)) from error

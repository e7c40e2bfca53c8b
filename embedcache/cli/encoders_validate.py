"""`embedcache encoders validate`: our predictions beside those that the authors published."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, expand
from embedcache.cli.extract import Device

if TYPE_CHECKING:
    from embedcache.cohorts.cohort import Cohort as CohortImages
    from embedcache.download import Remote
    from embedcache.encoders.resolve import ResolvedEncoder
    from embedcache.encoders.validation.agreement import Agreement
    from embedcache.encoders.validation.reference import ValidationReference
    from embedcache.progress import Progress

#: Disagreements that are shown; `--json` lists all.
_SHOWN = 20


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="NAME[=WEIGHTS] of an encoder with a reference.")
]
Cohort = Annotated[
    str, typer.Option("--cohort", help="[NAME=]KIND:PLACE, the whole cohort as published.")
]
ReferenceFile = Annotated[
    Path | None,
    typer.Option(
        "--reference", help="The authors' predictions; fetched if not given.", callback=expand
    ),
]
PromptsFile = Annotated[
    Path | None,
    typer.Option("--prompts", help="The authors' prompts; fetched if not given.", callback=expand),
]
KeptStore = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Keep the features here, and go on from there; else they are thrown away.",
        callback=expand,
    ),
]


def validate(
    name: Name,
    cohort: Cohort,
    reference: ReferenceFile = None,
    prompts: PromptsFile = None,
    store: KeptStore = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Recompute, image by image, what an encoder's authors publish, and print the agreement.

    Example: embedcache encoders validate fetalclip --cohort spain=fetal-planes-db:FOLDER
    --store store.zarr
    """
    from embedcache.cli.show import progress_bars
    from embedcache.cohorts.reference import read_cohort
    from embedcache.encoders.reference import parse_encoder
    from embedcache.encoders.resolve import resolve
    from embedcache.encoders.validation.references import reference_of

    published = reference_of(parse_encoder(name).name)
    resolved = resolve(name)
    asked = read_cohort(cohort)  # before anything is fetched for it
    with TemporaryDirectory(prefix="embedcache-") as scratch, progress_bars() as progress:
        folder = Path(scratch)
        found = _compared(
            published,
            resolved,
            predictions=reference or _fetched(published.predictions, folder, progress),
            prompts=prompts or _fetched(published.prompts, folder, progress),
            asked=asked,
            store=store or folder / "store.zarr",
            device=device,
            progress=progress,
        )
    _show(found, published, random=resolved.contract.random_weights, as_json=json)
    if found.beyond_half:
        raise typer.Exit(1)


def _fetched(remote: Remote, folder: Path, progress: Progress) -> Path:
    from embedcache.download import download

    file = folder / remote.url.rpartition("/")[2]
    sha256 = download(remote, file, lambda _: None)
    progress.note(f"{file.name}: fetched, sha256 {sha256}")
    return file


def _compared(
    reference: ValidationReference,
    resolved: ResolvedEncoder,
    *,
    predictions: Path,
    prompts: Path,
    asked: CohortImages,
    store: Path,
    device: str,
    progress: Progress,
) -> Agreement:
    import numpy as np

    from embedcache.encoders.validation.agreement import agreement, rows_of
    from embedcache.extraction.extract import extract
    from embedcache.probing.zero_shot import class_vectors, logits
    from embedcache.store.reader import open_store

    # What can be wrong at once is said before an hour of work.
    published, views = reference.read(predictions), reference.read_prompts(prompts)
    rows = rows_of(reference, published, [asked.classes[k] for k in asked.label.tolist()])
    text = resolved.build_text()
    sentences = [(prompt, place) for place, own in enumerate(views.values()) for prompt in own]
    vector = text.encode_text([prompt for prompt, _ in sentences])
    words = class_vectors(vector, np.array([place for _, place in sentences], np.int64))
    extract(store, [asked], [resolved], device=device, progress=progress)
    opened = open_store(store)
    feature_id = resolved.contract.feature_id
    row = opened.cohort(asked.name).row[rows]
    encoded = (row >= 0) & opened.done(feature_id)[row]
    cosine = logits(opened.features(feature_id, row[encoded]), words, 1.0)
    return agreement(reference, published, list(views), rows, encoded, cosine)


def _show(found: Agreement, reference: ValidationReference, *, random: bool, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table
    from embedcache.encoders.validation.agreement import HALF
    from embedcache.schema import plain

    if as_json:
        content = {**plain(found), "beyond_half": found.beyond_half, "random_weights": random}
        print_json({**content, "encoder": reference.encoder, "citation": reference.citation})
        return
    if random:
        typer.echo("RANDOM WEIGHTS: what follows says nothing about any model")
    rows = [
        [one.label, f"{one.images:,}", f"{one.agreed:,}", _share(one.agreed, one.images)]
        for one in found.classes
    ]
    rows.append(
        ["all", f"{found.images:,}", f"{found.agreed:,}", _share(found.agreed, found.images)]
    )
    title = f"{reference.encoder} beside {reference.name} ({reference.citation})"
    print_table(title, ["class", ">images", ">agree", ">share"], rows)
    typer.echo(f"macro-F1 {found.macro_f1:.4f}, published {found.published_macro_f1:.4f}")
    if found.not_compared:
        typer.echo(f"{found.not_compared:,} images could not be encoded and are not compared")
    _show_disagreements(found)
    typer.echo(
        f"{found.beyond_half:,} disagree by more than half precision explains "
        f"(a cosine of {HALF:g}; the authors computed in it)"
    )


def _show_disagreements(found: Agreement) -> None:
    from embedcache.cli.show import print_table

    if not found.disagreements:
        return
    rows = [
        [f"{one.row:,}", one.label, one.published, one.found, f"{one.margin:.4f}"]
        for one in found.disagreements[:_SHOWN]
    ]
    columns = [">row", "class", "published", "here", ">by a cosine of"]
    print_table("First disagreements", columns, rows)
    if len(found.disagreements) > _SHOWN:
        typer.echo(f"and {len(found.disagreements) - _SHOWN:,} more (--json lists all)")


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else ""

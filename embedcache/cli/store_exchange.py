"""`embedcache store export` and `import`: features in other people's formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, Out, RootToRead, split_commas

if TYPE_CHECKING:
    from embedcache.store.exchange.format import Claims, ImageFacts

To = Annotated[str, typer.Option("--to", help="hdf5, npy-parquet, or a plugin's format.")]
From = Annotated[str, typer.Option("--from", help="hdf5, npy-parquet, eva, or a plugin's format.")]
Encoder = Annotated[str, typer.Option("--encoder", help="NAME or NAME#ID of the store.")]
Cohort = Annotated[
    list[str] | None, typer.Option("--cohort", help="Name of a cohort; all of the store if none.")
]
Places = Annotated[
    list[Path], typer.Argument(metavar="PLACE…", help="Files or folders, one an encoder.")
]
_EVA = "Needed for eva, which does not say it. "
Called = Annotated[str, typer.Option("--encoder", help=_EVA + "What the encoder is called.")]
Named = Annotated[str, typer.Option("--cohort", help=_EVA + "What the cohort is called.")]
Images = Annotated[
    Path | None,
    typer.Option(help=_EVA + "Folder of the images, as `origin` in the manifest counts from."),
]
PatientColumn = Annotated[
    str, typer.Option(help=_EVA + "Column of the manifest that says whose image it is.")
]
Patients = Annotated[
    str, typer.Option(help="Namespace of eva's patients; the cohort's name if not given.")
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--classes", metavar="a,b,c", help="Class list for eva's targets."),
]


def export(store: RootToRead, encoder: Encoder, to: To, out: Out, cohort: Cohort = None) -> None:
    """Write one encoder's features in another format.

    Example: embedcache store export store.zarr --encoder usfm --to hdf5 -o usfm.h5
    """
    from embedcache.store.exchange.transfer import export_features

    cohorts = split_commas(cohort or [])
    table = export_features(store, encoder, out, to=to, cohorts=cohorts)
    vectors, dim = table.vectors.shape
    typer.echo(
        f"{out.name}: {vectors:,} vectors of {dim:,} numbers, {len(table.images):,} images, "
        f"cohorts {', '.join(one.name for one in table.cohorts) or 'none'}"
    )


def import_(
    place: Places,
    out: Out,
    from_: From,
    encoder: Called = "",
    cohort: Named = "",
    images: Images = None,
    patient_column: PatientColumn = "",
    patients: Patients = "",
    classes: Classes = None,
    json: Json = False,
) -> None:
    """Write features of another format to a new store; `store merge` joins it to another.

    Example: embedcache store import usfm.h5 --from hdf5 -o store.zarr
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.exchange.transfer import import_features, load_features

    claims = None
    if encoder or cohort or images or patient_column or classes or patients:
        claims = _claims(encoder, cohort, images, patient_column, patients, classes or [])
    tables = [load_features(one.expanduser(), form=from_, claims=claims) for one in place]
    with progress_bars() as progress:
        import_features(tables, out, progress)
    features = {table.about.name: table.vectors.shape[0] for table in tables}
    if json:
        print_json({"features": features})
        return
    for name, vectors in features.items():
        typer.echo(f"{out.name}: {vectors:,} vectors of {name}")


def _claims(
    encoder: str,
    cohort: str,
    images: Path | None,
    patient_column: str,
    patients: str,
    classes: list[str],
) -> Claims:
    from embedcache.store.exchange.format import Claims
    from embedcache.store.pseudonyms import owner_key

    needed = {
        "--encoder": encoder,
        "--cohort": cohort,
        "--images": images,
        "--patient-column": patient_column,
    }
    lacking = [flag for flag, value in needed.items() if not value]
    if lacking or images is None:
        raise typer.BadParameter(f"{' and '.join(lacking)} must be given too")
    return Claims(
        encoder=encoder,
        cohort=cohort,
        classes=split_commas(classes),
        patient=patient_column,
        namespace=patients or cohort,
        images=images.expanduser(),
        identify=_identify,
        key=owner_key(),
    )


def _identify(path: Path) -> ImageFacts:
    """Digest and header of an image; the store's rooms open none themselves."""
    from embedcache.images.decode import header
    from embedcache.images.source import ImageFile
    from embedcache.store.exchange.format import ImageFacts

    raw = ImageFile(path).read()
    found = header(raw)
    return ImageFacts(
        digest=raw.digest,
        width=found.width,
        height=found.height,
        format=found.format,
        mode=found.mode,
    )

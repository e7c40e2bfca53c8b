"""`embedcache predict`: apply a fitted probe to a cohort of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json, Out, StoreToRead, expand

Cohort = Annotated[str, typer.Option("--cohort", help="Cohort of the store, labelled or not.")]
Results = Annotated[
    Path, typer.Option("--probe", help="Results folder that probe wrote.", callback=expand)
]
Encoder = Annotated[str, typer.Option("--encoder", help="As the results folder calls it.")]
Estimator = Annotated[str, typer.Option(help="Whose model.")]


def predict(
    store: StoreToRead,
    cohort: Cohort,
    probe: Results,
    encoder: Encoder,
    out: Out,
    estimator: Estimator = "linear-probe",
    json: Json = False,
) -> None:
    """Predict a cohort's images by the probe fitted on all training images.

    Example: embedcache predict store.zarr --cohort ours --probe results --encoder usfm -o ours.csv
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.probing.predict import predict as apply_probe

    with progress_bars() as progress:
        done = apply_probe(
            store,
            cohort,
            results=probe,
            encoder=encoder,
            out=out,
            estimator=estimator,
            progress=progress,
        )
    if json:
        print_json(done)
        return
    typer.echo(str(out))
    if done.labelled == done.images:
        typer.echo(f"next: embedcache evaluate {out} --out RESULTS")

"""`embedcache zero-shot`: classify cached features by words, and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import DryRun, Json, Out, StoreToRead, expand
from embedcache.cli.protocol_flags import (
    Classes,
    External,
    Folds,
    LinksFile,
    ProtocolFile,
    Seed,
    Train,
    asked_protocol,
)

if TYPE_CHECKING:
    from embedcache.probing.zero_shot import ZeroShotPlan


Encoder = Annotated[
    str, typer.Option("--encoder", help="NAME[@VARIANT][=WEIGHTS] of an image-text model.")
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        help="Words by class, as TOML; embedcache's own for fetal planes if not given.",
        callback=expand,
    ),
]


def zero_shot(
    store: StoreToRead,
    encoder: Encoder,
    out: Out,
    train: Train = None,
    external: External = None,
    prompts: PromptsFile = None,
    protocol: ProtocolFile = None,
    links: LinksFile = None,
    classes: Classes = None,
    folds: Folds = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Classify cached features by words, on the images and folds of the other arms.

    Example: embedcache zero-shot store.zarr --encoder fetalclip --train spain --external africa
    --out results
    """
    from embedcache.cli.leaderboard import print_results
    from embedcache.cli.show import progress_bars
    from embedcache.encoders.resolve import resolve
    from embedcache.encoders.text import require_text
    from embedcache.evaluation.evaluate import evaluate
    from embedcache.probing.prompts import read_prompts
    from embedcache.probing.zero_shot import plan_zero_shot
    from embedcache.probing.zero_shot import zero_shot as classify

    asked = asked_protocol(
        protocol,
        train=train,
        external=external,
        links=links,
        classes=classes,
        folds=folds,
        seed=seed,
    )
    words = read_prompts(prompts) if prompts else None
    resolved = resolve(encoder)
    require_text(resolved.name, resolved.spec)
    plan = plan_zero_shot(
        store,
        asked,
        out=out,
        encoder=encoder,
        feature_id=resolved.contract.feature_id,
        prompts=words,
    )
    if dry_run:
        _show_plan(plan, as_json=json)
        return
    with progress_bars() as progress:
        if plan.found:
            progress.note(f"{plan.encoder} was classified by these words already")
        else:
            text = resolved.build_text()
            classify(plan, text.encode_text(plan.prompt), scale=text.scale, progress=progress)
        rows = evaluate(out, progress=progress)
    print_results(out, rows, as_json=json)


def _show_plan(plan: ZeroShotPlan, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table

    record = plan.prepared.record
    images = {cohort.name: cohort.images for cohort in record.cohorts}
    sentences = {name: int((plan.of == place).sum()) for place, name in enumerate(record.classes)}
    if as_json:
        content = {"encoder": plan.encoder, "found": plan.found, "images": images}
        print_json({**content, "prompts": sentences})
        return
    for note in plan.prepared.notes:
        typer.echo(note)
    rows = [[name, f"{count:,}"] for name, count in sentences.items()]
    print_table(f"Prompts of {plan.encoder}", ["class", ">prompts"], rows)
    counts = ", ".join(f"{count:,} images of {name}" for name, count in images.items())
    done = "; they were classified by these words already" if plan.found else ""
    typer.echo(f"{counts}{done}; nothing was written")

"""`embedcache finetune`: tune encoders over the folds of the other arms and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Cohorts, DryRun, Encoders, Json, Out, expand, split_commas
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
    from embedcache.finetuning.plan import Plan
    from embedcache.finetuning.units import Asked


TuneWhat = Annotated[
    str, typer.Option("--tune", help="full, head (the encoder stays frozen) or lora (adapters).")
]
Budget = Annotated[
    str | None,
    typer.Option(help="90m, 12h or 2d: encoders that do not fit are left out and named."),
]
Device = Annotated[
    str, typer.Option(help="auto (every GPU, else the CPU), cpu, cuda, cuda:1 or mps.")
]
Rates = Annotated[
    list[str] | None,
    typer.Option("--lr", help="Learning rates; of several, an inner split of fold 0 chooses."),
]
Epochs = Annotated[int | None, typer.Option(help="Most passes over the training images.")]
BatchSize = Annotated[int | None, typer.Option(help="Images a step.")]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe", help="Every setting of the training, as TOML; flags win.", callback=expand
    ),
]
Refit = Annotated[
    bool, typer.Option("--refit", help="Also make a model of all training images, to be used.")
]
TensorBoardFolder = Annotated[
    Path | None,
    typer.Option("--tensorboard", help="Folder for TensorBoard's event files.", callback=expand),
]


def finetune(
    cohort: Cohorts,
    encoder: Encoders,
    out: Out,
    train: Train = None,
    external: External = None,
    protocol: ProtocolFile = None,
    links: LinksFile = None,
    classes: Classes = None,
    folds: Folds = None,
    seed: Seed = None,
    tune: TuneWhat = "full",
    recipe: RecipeFile = None,
    lr: Rates = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    refit: Refit = False,
    budget: Budget = None,
    device: Device = "auto",
    tensorboard: TensorBoardFolder = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Tune encoders on the images and folds of the other arms, and evaluate all of RESULTS.

    Example: embedcache finetune --cohort spain=fetal-planes-db:FOLDER --encoder usfm --train spain
    --out results
    """
    from embedcache.cli.leaderboard import print_results
    from embedcache.cli.show import progress_bars
    from embedcache.evaluation.evaluate import evaluate
    from embedcache.finetuning.budget import seconds_of
    from embedcache.finetuning.finetune import finetune as tune_encoders
    from embedcache.finetuning.plan import plan_finetune

    asked_for = asked_protocol(
        protocol,
        train=train,
        external=external,
        links=links,
        classes=classes,
        folds=folds,
        seed=seed,
    )
    asked = _asked(tune, recipe, lr, {"epochs": epochs, "batch": batch_size}, refit=refit)
    seconds = None if budget is None else seconds_of(budget)
    encoders = split_commas(encoder)
    with progress_bars() as progress:
        if dry_run:
            plan = plan_finetune(
                cohort,
                encoders,
                asked_for,
                out=out,
                asked=asked,
                device=device,
                budget=seconds,
                progress=progress,
            )
        else:
            tune_encoders(
                cohort,
                encoders,
                asked_for,
                out=out,
                asked=asked,
                device=device,
                budget=seconds,
                tensorboard=tensorboard,
                progress=progress,
            )
            rows = evaluate(out, progress=progress)
    if dry_run:
        _show_plan(plan, as_json=json)
        return
    print_results(out, rows, as_json=json)


def _asked(
    tune: str,
    recipe: Path | None,
    lr: list[str] | None,
    given: dict[str, int | None],
    *,
    refit: bool,
) -> Asked:
    """Gather what is asked of the training.

    Raises:
        PathMissingError, SchemaError: if the recipe cannot be read.
        SettingError: if a value makes no sense.
    """
    from typing import get_args

    from embedcache.finetuning.recipe import RATES, Recipe, Tune
    from embedcache.finetuning.units import Asked
    from embedcache.schema import from_plain, read_toml_table

    modes: dict[str, Tune] = {mode: mode for mode in get_args(Tune)}
    if tune not in modes:
        raise typer.BadParameter(f"--tune is {tune!r}; give {', '.join(modes)}")
    content: dict[str, object] = {} if recipe is None else read_toml_table(recipe)
    content |= {name: value for name, value in given.items() if value is not None}
    return Asked(
        tune=modes[tune],
        recipe=from_plain(Recipe, content, where="--recipe" if recipe is None else recipe.name),
        rates=_rates(lr) or RATES[modes[tune]],
        refit=refit,
    )


def _rates(words: list[str] | None) -> tuple[float, ...]:
    rates = []
    for word in split_commas(words or []):
        try:
            rates.append(float(word))
        except ValueError:
            rates.append(0.0)
        if not 0 < rates[-1] < 1:
            raise typer.BadParameter(f"--lr is {word!r}; give rates such as 1e-4, between 0 and 1")
    return tuple(dict.fromkeys(rates))


def _show_plan(plan: Plan, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table, spoken

    if as_json:
        print_json(
            {
                "devices": plan.device_names,
                "found": plan.found,
                "hours": plan.hours,
                "missing": [
                    {
                        "encoder": one.encoder,
                        "training": one.training,
                        "trainings": one.trainings,
                        "images": one.images,
                        "hours": one.hours,
                    }
                    for one in plan.estimates
                ],
                "dropped": plan.dropped,
                "images": {cohort.name: cohort.images for cohort in plan.prepared.record.cohorts},
            }
        )
        return
    for note in plan.prepared.notes:
        typer.echo(note)
    rows = [
        [one.encoder, one.training, str(one.trainings), f"{one.images:,}", spoken(one.seconds)]
        for one in plan.estimates
    ]
    columns = ["encoder", "training set", ">trainings", ">images an epoch", ">at most"]
    print_table("Models to be tuned", columns, rows)
    for encoder, hours in plan.dropped.items():
        typer.echo(f"{encoder} has no room in the budget: it would take {spoken(hours * 3600)}")
    where = f"{len(plan.devices)} x {plan.device_names[0]}"
    typer.echo(
        f"{len(plan.missing):,} to tune on {where}, at most {spoken(plan.hours * 3600)} in all; "
        f"{plan.found:,} there already; nothing was written"
    )

"""``finicky run``, ``select`` and ``report``: the main job and what can be done with its folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say
from finicky.cli.following import JsonEvents, emit, tell

if TYPE_CHECKING:
    from finicky.sweep import DecisionSettings, SweepResult
    from finicky.sweep.events import Event

Keep = Annotated[
    str | None,
    typer.Option(
        "--keep",
        help="Keep ratios to try: 0.05,0.1,0.2 or 0.05:0.5:0.05; each in (0, 1]. Default: search "
        "for the best of 0.01 to 0.99.",
    ),
]
Decision = Annotated[
    str,
    typer.Option(
        help="weighted: w_q·F1/F1₀ + w_p·(1 − P/P₀) + w_t·(1 − t/t₀). published: F1/F1₀ + "
        "(1 − P/P₀)."
    ),
]
WeightQuality = Annotated[float | None, typer.Option(help="w_q, at least 0.")]
WeightParams = Annotated[float | None, typer.Option(help="w_p, at least 0.")]
WeightTime = Annotated[float | None, typer.Option(help="w_t, at least 0.")]
MaxLatency = Annotated[
    float | None, typer.Option(help="Limit on latency p50 at batch 1, one thread, in ms.")
]
MaxSize = Annotated[float | None, typer.Option(help="Limit on the file's size, in MB.")]
MinRecall = Annotated[float | None, typer.Option(help="Least recall on validation, in [0, 1].")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(run)
    app.command()(select)
    app.command()(report)


def run(
    project: Annotated[
        Path,
        typer.Argument(help="Folder with finicky.toml, or with photos/ (or images/) and masks/."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; default: runs/<date and time> in the project."),
    ] = None,
    backbone: options.ProjectBackbone = None,
    weights: options.WeightsSource = None,
    arch: options.Arch = None,
    preprocessing: options.PreprocessingName = None,
    method: options.Method = "finicky",
    criterion: options.Criterion = "coverage",
    repair: Annotated[
        str,
        typer.Option(
            help="After the cut: reconstruct (fit each layer to the full network's responses on "
            "training tiles), rescale (bring each channel to its old mean and spread), none, or "
            "auto: the better of reconstruct and none on validation (none for the method original)."
        ),
    ] = "auto",
    round_to: Annotated[
        int,
        typer.Option(help="Channel counts from this up become multiples of it; 1: as they are."),
    ] = 16,
    keep: Keep = None,
    exhaustive: Annotated[
        bool, typer.Option(help="Evaluate all of 0.01 to 0.99 instead of searching among them.")
    ] = False,
    budget: options.BudgetLimits = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in px; default: the project's, or 96.")
    ] = None,
    features: options.Features = "mean+max",
    target: options.Target = None,
    min_coverage: options.Coverage = 0.01,
    tiles_per_photo: Annotated[
        int | None, typer.Option(help="At most so many tiles of each class from one photo.")
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Heads trained on different three quarters of the photos.")
    ] = 5,
    seed: options.Seed = 0,
    latency_seconds: Annotated[
        float,
        typer.Option(help="Seconds that each candidate is timed, per thread setting; 0: none."),
    ] = 1.0,
    train: options.Train = "auto",
    time_limit: options.TrainTime = None,
    depth: Annotated[
        str,
        typer.Option(
            help="Where candidates end: full, at the last layer; auto, also where the network "
            "tells the target best on training tiles; all; or convolutions, with commas."
        ),
    ] = "full",
    maps: Annotated[
        bool,
        typer.Option(help="Train a pixel head for the chosen network: a map finer than a tile."),
    ] = True,
    decision: Decision = "weighted",
    weight_quality: WeightQuality = None,
    weight_params: WeightParams = None,
    weight_time: WeightTime = None,
    max_latency_ms: MaxLatency = None,
    max_size_mb: MaxSize = None,
    min_recall: MinRecall = None,
    workers: options.Workers = 0,
    executor: options.ExecutorName = "local",
    ray_address: options.RayAddress = None,
    force: options.Force = False,
    as_json: options.Events = False,
) -> None:
    """The main job: score, cut at many keep ratios, train, test, time, choose, report.

    Without --keep it searches: a quick glance at some ratios, then closer and closer to the best.
    Stopped in the middle, the same command goes on where it was.
    """
    from finicky.locks import refuse_taken
    from finicky.project import Project

    opened = Project.open(project)
    folder = out or opened.runs / time.strftime("%Y%m%d-%H%M%S")
    refuse_taken(folder)  # torch takes seconds to load
    from finicky.pruning.budget import parse_budgets
    from finicky.sweep import DEFAULT_KEEP_RATIOS, Execution, SearchSettings, SweepSettings
    from finicky.sweep.training_kinds import parse_kinds, parse_time

    execution = Execution(workers, executor, ray_address)
    limits = parse_budgets(budget or ())
    ratios = keep_ratios(keep, exhaustive)
    settings = SweepSettings(
        backbone=backbone or opened.backbone,
        weights=weights,
        arch=arch,
        preprocessing=preprocessing,
        method=method,
        criterion=criterion,
        repair=repair,
        round_to=round_to,
        keep_ratios=ratios or DEFAULT_KEEP_RATIOS,
        tile=tile if tile is not None else opened.tile,
        features=features,
        targets=tuple(target or ()),
        min_coverage=min_coverage,
        tiles_per_photo=tiles_per_photo,
        head_seeds=seeds,
        seed=seed,
        latency_seconds=latency_seconds,
        train=parse_kinds(train),
        train_time_s=None if time_limit is None else parse_time(time_limit),
        maps=maps,
        depth=depth,
    )
    choice = decision_settings(
        decision,
        (weight_quality, weight_params, weight_time),
        max_latency_ms=max_latency_ms,
        max_size_mb=max_size_mb,
        min_recall=min_recall,
    )
    carry_out(
        opened,
        folder,
        settings,
        choice,
        execution=execution,
        search=SearchSettings() if ratios is None else None,
        budgets=limits,
        force=force,
        as_json=as_json,
    )


def select(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    decision: Decision = "weighted",
    weight_quality: WeightQuality = None,
    weight_params: WeightParams = None,
    weight_time: WeightTime = None,
    max_latency_ms: MaxLatency = None,
    max_size_mb: MaxSize = None,
    min_recall: MinRecall = None,
    as_json: options.AsJson = False,
) -> None:
    """Choose again in a finished run, by another decision function or within limits."""
    from finicky.report import write_report
    from finicky.sweep import select_again

    choice = decision_settings(
        decision,
        (weight_quality, weight_params, weight_time),
        max_latency_ms=max_latency_ms,
        max_size_mb=max_size_mb,
        min_recall=min_recall,
    )
    with ConsoleProgress() as progress:
        result = select_again(run, choice, progress=progress)
        write_report(run, progress=progress)
    show(result, as_json)


def report(run: Annotated[Path, typer.Argument(help="Run folder.")]) -> None:
    """Write report.html anew from what a run folder holds."""
    from finicky.report import write_report

    print(f"report: {write_report(run)}")


def decision_settings(
    decision: str, weights: tuple[float | None, float | None, float | None], **limits: float | None
) -> DecisionSettings:
    """The options of the choice as the library takes them."""
    from finicky.errors import UsageError
    from finicky.selection import Constraints, Weights
    from finicky.sweep import DecisionSettings

    default = Weights()
    given = dict(zip(("quality", "params", "time"), weights, strict=True))
    if decision == "published" and any(value is not None for value in weights):
        raise UsageError("the published decision has no weights: leave them out")
    merged = {k: getattr(default, k) if v is None else v for k, v in given.items()}
    return DecisionSettings(decision, Weights(**merged), Constraints(**limits))


def keep_ratios(keep: str | None, exhaustive: bool) -> tuple[float, ...] | None:
    """The ratios that are to be evaluated; ``None``: those that a search asks for."""
    from finicky.errors import UsageError
    from finicky.sweep import SearchSettings, parse_ratios

    if exhaustive and keep is not None:
        raise UsageError("--exhaustive is for all keep ratios: leave it or --keep out")
    if exhaustive:
        return SearchSettings().grid
    return None if keep is None else parse_ratios(keep)


def carry_out(
    project: Any,
    folder: Path,
    settings: Any,
    choice: Any,
    *,
    execution: Any = None,
    search: Any = None,
    budgets: Any = (),
    force: bool,
    as_json: bool,
) -> None:
    """Run, report and print; shared by ``run`` and ``demo``."""
    from finicky.report import write_report, write_run_gallery
    from finicky.sweep import Execution, run_sweep

    told: dict[str, Any] = {}

    def listen(event: Event) -> None:
        if event.kind == "started":
            told.update(event.facts)
        (progress.listen if isinstance(progress, JsonEvents) else tell)(event)

    try:
        with JsonEvents() if as_json else ConsoleProgress() as progress:
            result = run_sweep(
                project,
                folder,
                settings,
                choice,
                execution=execution or Execution(),
                search=search,
                budgets=budgets,
                force=force,
                progress=progress,
                listen=listen,
            )
            for path, reason in result.rejected:
                say(f"left out {path}: {reason}")
            write_run_gallery(folder, project, progress=progress)
            write_report(folder, progress=progress)
    except KeyboardInterrupt:
        say(f"error: interrupted; {_interrupted(folder, told.get('candidates'))}")
        raise typer.Exit(130) from None
    show(result, as_json)


def _interrupted(folder: Path, total: int | None) -> str:
    """How far a run came; how many candidates a search will ask for nobody knows."""
    done = len(list(folder.glob("candidates/*/metrics.json")))
    of_total = "" if total is None else f"of {total} "
    return (
        f"{done} {of_total}candidates are finished; the same command with --out {folder} goes on "
        "from there"
    )


def show(result: SweepResult, as_json: bool) -> None:
    """The chosen candidate against the unpruned network, and where to look."""
    from finicky.report import depth_lines
    from finicky.sweep.training_kinds import FROZEN, KIND_WORDS

    chosen, full = result.chosen, result.full
    root = result.folder.root
    if as_json:
        failed = {str(row["candidate"]): row["failed"] for row in result.failed}
        found = {"chosen": chosen, "full": full, "map": result.map.facts, "failed": failed}
        emit("result", out=str(root), **found)
        return
    kind = "" if chosen["train"] == FROZEN else f" ({KIND_WORDS[chosen['train']]})"
    ending = f" up to {chosen['depth']}" if chosen["depth"] else ""
    print(
        f"chosen: keep {chosen['keep_ratio']:g}{kind}{ending}, {chosen['params']:,.0f} parameters "
        f"({chosen['params'] / full['params']:.1%} of {full['params']:,.0f})"
    )
    if chosen.get("latency_ratio"):
        without = "; without the map, which `finicky export` times" if result.map.facts else ""
        print(
            f"latency p50: {chosen['latency_p50_ms']:.2f} ms against "
            f"{full['latency_p50_ms']:.2f} ms, {chosen['latency_ratio']:.1f} times faster "
            f"(batch 1, one thread{without})"
        )
    for name in ("balanced_accuracy", "f1"):
        print(
            f"{name.replace('_', ' ')} on test: {_interval(chosen, name)}; "
            f"full network {_interval(full, name)}"
        )
    print(_told_map(result))
    for line in depth_lines(root, chosen, full):
        print(line)
    print(f"table: {root / 'results.csv'}")
    print(f"model: {root / 'selected'}")
    print(f"report: {root / 'report.html'}")


def _told_map(result: SweepResult) -> str:
    """How well the map follows the masks, or why there is none."""
    facts = result.map.facts
    if facts is None:
        return f"no map finer than a tile: {result.map.reason}"
    told = f"map: cells of {facts['map_px']:g} px; pixel F1 (2 px tolerance) on "
    if facts["test"] is None:
        return told + f"validation: {facts['validation']['f1']:.3f}"
    low, high = facts["test_f1_interval"]
    return told + f"test: {facts['test']['f1']:.3f} ({low:.3f} to {high:.3f})"


def _interval(row: dict[str, Any], name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "undefined"
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} ({low:.3f} to {high:.3f})"

"""``finicky label`` and ``finicky masks``: mark photos, and exchange masks with other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options
from finicky.cli.console import say
from finicky.errors import UsageError

if TYPE_CHECKING:
    from finicky.classes import ClassTable
    from finicky.data.formats import ExportReport, ImportReport
    from finicky.project import Project

# More files than this are only looked at unless --yes says otherwise.
_MANY = 20

ProjectFolder = Annotated[
    Path, typer.Argument(help="Folder with finicky.toml, or with photos/ (or images/) and masks/.")
]
FormatName = Annotated[
    str,
    typer.Option(
        "--format",
        help="index-png, binary-png, crackforest, voc, cvat-mask, cvat-xml, labelme, coco, "
        "label-studio, yolo or original.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(label)
    masks = typer.Typer(no_args_is_help=True, help="Exchange masks with other tools.")
    masks.command("import")(import_)
    masks.command("export")(export)
    app.add_typer(masks, name="masks")


def label(
    project: ProjectFolder,
    port: Annotated[
        int | None, typer.Option(help="Port; default: the one this project had last time.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Allow a --host that other machines reach.")
    ] = False,
    backbone: Annotated[
        str,
        typer.Option(help="Network whose best filters help to propose masks; default: none."),
    ] = "",
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page at once.")
    ] = True,
) -> None:
    """Mark cracks in the browser; every stroke is saved, and photos are never changed."""
    from finicky.errors import MissingDependencyError
    from finicky.project import Project

    try:
        from finicky.labeler import Workplace, serve
        from finicky.labeler.server import ServerOptions
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the labeler needs {error.name}: pip install 'finicky-transfer-learning[label]'"
        ) from error
    opened = Project.open(project)
    workplace = Workplace(opened.root, opened.photos, opened.masks, opened.classes)
    settings = ServerOptions(host=host, port=port, allow_remote=allow_remote, backbone=backbone)
    if allow_remote:
        say("warning: other machines can reach this labeler; whoever has the link can draw")

    def announce(link: str) -> None:
        print(link, flush=True)
        say("The link works once. Ctrl+C stops the labeler; everything is saved as you draw.")

    serve(workplace, settings, open_browser=browser, announce=announce)
    say(f"stopped; masks are in {opened.masks}")


def import_(
    project: ProjectFolder,
    source: Annotated[Path, typer.Argument(help="File or folder of the other tool.")],
    name: FormatName,
    existing: Annotated[
        str,
        typer.Option(
            help="Photos that have a mask: refuse, keep it, merge into it (only where it is "
            "unlabelled) or replace it. What is changed is backed up."
        ),
    ] = "refuse",
    unmarked: Annotated[
        str,
        typer.Option(
            help="Class of what the format leaves unmarked, or 'unlabelled'; default: what the "
            "format means by it."
        ),
    ] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Write more than 20 masks without a look first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring masks of another tool into a project; nothing is written over silently."""
    from finicky.data.formats import ExchangeOptions, import_masks

    opened = _opened(project)

    def run(dry: bool) -> ImportReport:
        return import_masks(
            source,
            name,
            photos=opened.photos,
            masks=opened.masks,
            backups=opened.root / "state" / "backups",
            classes=opened.classes,
            options=ExchangeOptions(unmarked=_unmarked(unmarked, opened.classes)),
            on_existing=existing,  # type: ignore[arg-type]  # checked there
            dry_run=dry,
        )

    report = run(True)
    held_back = len(report.written) > _MANY and not yes
    if not dry_run and not held_back:
        report = run(False)
    _tell_import(report, as_json)
    if held_back and not dry_run:
        say(f"nothing written yet: {len(report.written)} masks are many, add --yes to write them")


def export(
    project: ProjectFolder,
    out: Annotated[Path, typer.Argument(help="Folder to write; new or empty.")],
    name: FormatName,
    polygons: Annotated[
        bool, typer.Option("--polygons", help="Polygons instead of runs (coco).")
    ] = False,
    tolerance: Annotated[
        float,
        typer.Option(help="How far outlines may be simplified, in px (coco --polygons, yolo)."),
    ] = 0.0,
    as_json: options.AsJson = False,
) -> None:
    """Write a project's masks for another tool, and say what the way back would lose."""
    from finicky.data.formats import ExchangeOptions, export_masks

    if tolerance < 0:
        raise UsageError(f"--tolerance must be 0 px or more, got {tolerance:g}")
    opened = _opened(project)
    report = export_masks(
        out,
        name,
        photos=opened.photos,
        masks=opened.masks,
        classes=opened.classes,
        options=ExchangeOptions(polygons=polygons, tolerance=tolerance),
    )
    _tell_export(report, out, as_json)


def _opened(project: Path) -> Project:
    from finicky.project import Project

    return Project.open(project)


def _unmarked(name: str, classes: ClassTable) -> int | None:
    if not name:
        return None
    return 0 if name == "unlabelled" else classes.named(name).id


def _tell_import(report: ImportReport, as_json: bool) -> None:
    counts = dict(report.pixels.by_class)
    if as_json:
        value = {
            "written": list(report.written),
            "kept": list(report.kept),
            "replaced": list(report.replaced),
            "pixels": {**counts, "unlabelled": report.pixels.unlabelled},
            "backup": None if report.backup is None else str(report.backup),
            "dry_run": report.dry_run,
        }
        print(json.dumps(value, ensure_ascii=False))
        return
    verb = "would write" if report.dry_run else "wrote"
    print(f"{verb} {len(report.written)} masks, {len(report.replaced)} of them over earlier ones")
    if report.kept:
        print(f"kept {len(report.kept)} masks as they are")
    for name, count in counts.items():
        print(f"{name:<14}{count:>12} px")
    if report.backup is not None and not report.dry_run:
        print(f"earlier masks: {report.backup}")


def _tell_export(report: ExportReport, out: Path, as_json: bool) -> None:
    shares = dict(report.round_trip)
    if as_json:
        print(json.dumps({"photos": report.photos, "round_trip_iou": shares}))
        return
    print(f"wrote {report.photos} masks to {out}")
    for name, share in shares.items():
        note = "" if share == 1 else "  (this format cannot hold all of it)"
        print(f"{name:<14}round-trip IoU {share:.4f}{note}")

"""``finicky predict``: photos in, pictures and tables of what was found out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finicky.cli import options
from finicky.cli.console import ConsoleProgress, say

if TYPE_CHECKING:
    from finicky.edge.inspection import Estimate

TOO_MANY_BAD = 3


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(predict)


def predict(
    bundle: Annotated[
        str,
        typer.Argument(help="Bundle or run folder, .onnx file, or name of a ready-made model."),
    ],
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photos, folders, patterns in quotes, @list.txt (a path a line), videos, camera:0."
        ),
    ] = None,
    list_: Annotated[
        Path | None, typer.Option("--list", help="File with a path a line, beside or for PHOTOS.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; default: results/<model>-<date and time>."),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", "-r", help="Look into subfolders.")
    ] = True,
    overlap: Annotated[
        str | None,
        typer.Option(help="Of tiles: a share in [0, 1) or pixels as 32px; default: the bundle's."),
    ] = None,
    fast: Annotated[bool, typer.Option("--fast", help="The same as --overlap 0.25.")] = False,
    conf: Annotated[
        list[str] | None,
        typer.Option(help="Threshold in (0, 1), as crack=0.6, or high:low, as crack=0.6:0.3."),
    ] = None,
    min_area: Annotated[
        float | None,
        typer.Option(help="Smallest region that counts, in px; default: the model's own."),
    ] = None,
    merge: Annotated[
        str, typer.Option(help="How overlapping tiles are weighted: gaussian or constant.")
    ] = "gaussian",
    scale: Annotated[
        str | None,
        typer.Option(
            "--scale",
            "--mm-per-px",
            help="Millimetres per px, or dpi: as scans say. Default: a GeoTIFF's own.",
        ),
    ] = None,
    overlays: Annotated[
        bool, typer.Option("--overlays/--no-overlays", help="Write overlay pictures.")
    ] = True,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Write masks.")] = True,
    geojson: Annotated[
        bool, typer.Option("--geojson/--no-geojson", help="Write outlines in pixels.")
    ] = True,
    heat: Annotated[bool, typer.Option("--heat", help="Write probabilities as pictures.")] = False,
    excel: Annotated[
        bool, typer.Option("--excel", help="CSV with the byte-order mark that Excel wants.")
    ] = False,
    separator: Annotated[str, typer.Option(help="Between CSV columns: , or ;.")] = ",",
    every: Annotated[int, typer.Option(help="Of videos, look at each so many-th frame.")] = 30,
    frames: Annotated[
        int | None, typer.Option(help="Most frames of a video; default: all, of a camera 100.")
    ] = None,
    max_pixels: Annotated[
        float, typer.Option(help="Largest photo that is read, in megapixels.")
    ] = 50,
    max_bad: Annotated[
        float, typer.Option(help="Share of unreadable photos, in [0, 1], up to which exit is 0.")
    ] = 0.01,
    threads: Annotated[int, typer.Option(help="Cores to use; 0: all.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with results in --out.")] = False,
    force: Annotated[
        bool, typer.Option("--force", "--overwrite", help="Throw away earlier results in --out.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Find defects on photos: tables, overlays, masks, outlines and a report.

    Exit codes: 0 done; 1 failed; 2 misused; 3 done, but more than --max-bad of the photos, or all
    of them, could not be read (summary.csv names each with the reason).
    """
    from finicky.edge import FrameSettings, open_bundle
    from finicky.edge.inspect import InspectSettings
    from finicky.edge.inspection import predict
    from finicky.edge.results import TableStyle
    from finicky.edge.worker import PredictSettings
    from finicky.errors import UsageError

    if fast and overlap is not None:
        raise UsageError("--fast is an overlap of 0.25: give it or --overlap, not both")
    if separator not in (",", ";"):
        raise UsageError(f"--separator must be , or ;, got {separator!r}")
    if not 0 <= max_bad <= 1:
        raise UsageError(f"--max-bad must be in [0, 1], got {max_bad:g}")
    given = [*(photos or []), *([f"@{list_}"] if list_ is not None else [])]
    if not given:
        raise UsageError("give photos, folders, patterns, videos or --list FILE")
    opened = open_bundle(bundle)
    high, low = _thresholds(conf or [], opened.target.name)
    wanted = {"overlays": overlays, "masks": masks, "geojson": geojson, "heat": heat}
    settings = PredictSettings(
        inspect=InspectSettings(
            overlap="0.25" if fast else overlap,
            high=high,
            low=low,
            min_area=min_area,
            merge=merge,  # type: ignore[arg-type]  # checked there
        ),
        recursive=recursive,
        outputs=tuple(name for name, on in wanted.items() if on),
        mm_per_px=_scale(scale),
        dpi_is_scale=scale == "dpi",
        max_pixels=round(max_pixels * 1e6),
        frames=FrameSettings(every=every, most=frames),
        threads=threads,
        table=TableStyle(separator, excel),
        resume=resume,
        force=force,
    )
    folder = out or Path("results", f"{opened.name}-{time.strftime('%Y%m%d-%H%M')}")
    try:
        with ConsoleProgress() as progress:
            result = predict(opened, given, folder, settings, progress=progress, announce=_announce)
    except KeyboardInterrupt:
        say(f"finished photos are in {folder}; go on: the same command, --out and --resume")
        raise
    if as_json:
        print(json.dumps({**vars(result), "out": str(result.out)}))
    else:
        print(
            f"{result.with_target} of {result.ok} photos with {opened.target.name}, "
            f"{result.regions} regions ({result.seconds:.1f} s)"
        )
        print(f"report: {folder / 'report.html'}")
        print(f"tables: {folder / 'summary.csv'} and {folder / 'defects.csv'}")
    if result.skipped:
        say(f"{result.skipped} files were left out: no photos by their names (see summary.csv)")
    if result.failed:
        say(f"could not be read: {result.failed}; summary.csv names each with the reason")
    if result.too_many_bad(max_bad):
        raise typer.Exit(TOO_MANY_BAD)


def _announce(estimate: Estimate) -> None:
    about = "" if estimate.exact else "about "
    earlier = f", {estimate.earlier} files done earlier" if estimate.earlier else ""
    photos = "1 photo" if estimate.photos == 1 else f"{estimate.photos} photos"
    say(
        f"{photos}, {about}{estimate.tiles} tiles, "
        f"expected to take {_duration(estimate.seconds)}{earlier}"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _scale(given: str | None) -> float | None:
    from finicky.errors import UsageError

    if given is None or given == "dpi":
        return None
    try:
        return float(given)
    except ValueError as error:
        raise UsageError(f"--scale must be millimetres per px or dpi, got {given!r}") from error


def _thresholds(given: list[str], target: str) -> tuple[float | None, float | None]:
    from finicky.errors import UsageError, nearest_names

    high: float | None = None
    low: float | None = None
    for entry in given:
        name, found, values = entry.partition("=")
        if found and name != target:
            raise UsageError(f"--conf: no class named {name!r}. {nearest_names(name, [target])}")
        one, _, two = (values if found else name).partition(":")
        try:
            high, low = float(one), float(two) if two else None
        except ValueError as error:
            raise UsageError(f"--conf must be like {target}=0.6, got {entry!r}") from error
    return high, low

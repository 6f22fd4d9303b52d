"""``report.html``: one file with everything in it, that opens without a network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from finicky.errors import DataError
from finicky.files import write_text
from finicky.images import printable
from finicky.progress import Progress, silent
from finicky.report import charts, details, tables
from finicky.report import wording as w
from finicky.report.cautions import cautions
from finicky.report.chart_parts import as_svg
from finicky.report.comparison import Comparison, compare
from finicky.report.facts import RunFacts, read_run
from finicky.report.gallery import GALLERY, FilterShown, Gallery, LayerShown
from finicky.sweep.folder import REPORT


@dataclass(frozen=True)
class Plot:
    """A picture of the page: a data URI, its words for those who cannot see it, its size in px."""

    source: str
    alt: str
    width: int
    height: int


@dataclass(frozen=True)
class FilterCell:
    """A filter of the gallery as the page shows it."""

    channel: str
    importance: str
    rank: str
    kept: bool
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class LayerBlock:
    """A layer of the gallery as the page shows it, pictures as data URIs."""

    name: str
    place: str
    kept: str
    channels: str
    best: tuple[FilterCell, ...]
    worst: tuple[FilterCell, ...]


@dataclass(frozen=True)
class GalleryBlock:
    """The gallery as the page shows it; ``photos`` are keys with the photo and its marks."""

    photos: tuple[tuple[str, str, str], ...]
    layers: tuple[LayerBlock, ...]


def write_report(run: Path, *, progress: Progress = silent) -> Path:
    """Write ``report.html`` into a finished run folder, from what lies there and nothing else.

    Args:
        run: The run folder.
        progress: Told of each stage.

    Returns:
        The path of the page. The same folder gives the same bytes.

    Raises:
        UsageError: The folder is missing or holds no finished run.
        DataError: A file in it is missing or damaged.
    """
    progress("report", 0, 3)
    facts = read_run(Path(run))
    gallery = _gallery(facts)
    comparison = compare(facts)
    progress("report", 1, 3)
    plots = _plots(facts, comparison)
    progress("report", 2, 3)
    path = facts.root / REPORT
    write_text(path, render(facts, comparison, plots, gallery))
    progress("report", 3, 3)
    return path


def render(
    facts: RunFacts,
    comparison: Comparison,
    plots: dict[str, Plot],
    gallery: GalleryBlock | None,
) -> str:
    """The page's text. All that comes from file names is escaped."""
    environment = Environment(
        loader=PackageLoader("finicky.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        facts=facts,
        project=str(facts.run.get("project", facts.root.name)),
        headline=headline(facts, comparison),
        tiles=tables.headline_tiles(facts, comparison),
        cautions=cautions(facts, comparison),
        lines=tables.comparison_lines(facts, comparison),
        confusion=tables.confusion_of(facts.chosen),
        full_confusion=tables.confusion_of(facts.full),
        candidates=tables.candidate_lines(facts),
        plots=plots,
        gallery=gallery,
        splits=details.split_lines(facts),
        rejections=details.rejections(facts),
        method=details.method_details(facts),
        choice=details.choice_details(facts),
        machine=details.machine_details(facts),
        keep=w.keep_percent(facts.chosen.number("keep_ratio")),
    )


def headline(facts: RunFacts, comparison: Comparison) -> str:
    """The result in two sentences."""
    chosen, full = facts.chosen, facts.full
    quality = w.percent(chosen.number("balanced_accuracy"))
    if facts.full_was_chosen:
        return (
            "The full network itself was chosen: by the decision function no smaller candidate is "
            f"worth what it loses. Its balanced accuracy on the test photos is {quality}."
        )
    saved = [
        f"has {w.small_percent(facts.share(chosen.row))} of the parameters",
        f"its file is {w.times(full.number('size_bytes') / chosen.number('size_bytes'))} smaller",
    ]
    if facts.timed:
        without = "; without the map, which finicky export times" if facts.mapped else ""
        saved.append(f"it is {w.speed(chosen.number('latency_ratio'))} (one thread{without})")
    return (
        f"The chosen network keeps {w.keep_percent(chosen.number('keep_ratio'))} of the filters"
        f"{w.trained(chosen.row)}: it {w.listed(saved)}. On the test photos its balanced "
        f"accuracy is {quality} "
        f"against {w.percent(full.number('balanced_accuracy'))} for the full network: "
        f"{comparison.verdict('balanced_accuracy')} ({comparison.told('balanced_accuracy')})."
    )


def _plots(facts: RunFacts, comparison: Comparison) -> dict[str, Plot]:
    drawn = {
        "quality": (charts.quality_chart(facts), "Quality against the share of parameters left"),
        "cost": (charts.cost_chart(facts), "File size and time against parameters left"),
        "keep": (charts.keep_chart(facts), "Parameters left against the share of filters kept"),
        "score": (charts.score_chart(facts), "Decision function against the share of filters"),
        "pareto": (charts.pareto_chart(facts), "F1 on validation against time per tile"),
    }
    if not facts.full_was_chosen:
        text = "Chosen minus full network, with intervals"
        drawn["difference"] = (charts.difference_chart(comparison), text)
    return {name: _plot(figure, alt) for name, (figure, alt) in drawn.items()}


def _plot(drawn: Figure, alt: str) -> Plot:
    width, height = (round(96 * side) for side in drawn.get_size_inches())
    return Plot(_data_uri(as_svg(drawn).encode(), "image/svg+xml"), alt, width, height)


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _picture(facts: RunFacts, name: str) -> str:
    """A gallery file as a data URI; a name that leads out of the folder is refused."""
    path = facts.root / GALLERY / name
    if Path(name).name != name or not name.endswith(".jpg") or path.is_symlink():
        raise DataError(f"{printable(facts.root / GALLERY)} names a strange file, {name!r}")
    try:
        return _data_uri(path.read_bytes(), "image/jpeg")
    except OSError as error:
        raise DataError(f"cannot read {printable(path)}: {error.strerror}") from error


def _gallery(facts: RunFacts) -> GalleryBlock | None:
    found = Gallery.read(facts.root / GALLERY)
    if found is None:
        return None
    photos = ((p.key, _picture(facts, p.photo), _picture(facts, p.marked)) for p in found.photos)
    return GalleryBlock(tuple(photos), tuple(_layer(facts, layer) for layer in found.layers))


def _layer(facts: RunFacts, layer: LayerShown) -> LayerBlock:
    kept = facts.kept.get(layer.name, [])
    return LayerBlock(
        name=layer.name,
        place=f"convolution {layer.number} of {layer.of}",
        kept=f"{w.count(len(kept))} of {w.count(layer.channels)} filters kept",
        channels=w.count(layer.channels),
        best=tuple(_cell(facts, shown, kept) for shown in layer.best),
        worst=tuple(_cell(facts, shown, kept) for shown in layer.worst),
    )


def _cell(facts: RunFacts, shown: FilterShown, kept: list[int]) -> FilterCell:
    return FilterCell(
        channel=str(shown.channel),
        importance=f"{shown.importance:.3f}",
        rank=str(shown.rank),
        kept=shown.channel in kept,
        pictures=tuple(_picture(facts, name) for name in shown.pictures),
    )

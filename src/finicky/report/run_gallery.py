"""The gallery of a run, from its folder and the project that it was made from."""

from __future__ import annotations

from pathlib import Path

from finicky.backbones import load_backbone
from finicky.data.pairs import find_pairs
from finicky.errors import DataError
from finicky.files import read_json
from finicky.images import printable
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.report.gallery import GALLERY, Gallery, GalleryOptions, write_gallery
from finicky.sweep.folder import IMPORTANCE, RUN, read_arrays


def write_run_gallery(
    run: Path,
    project: Project,
    *,
    options: GalleryOptions | None = None,
    progress: Progress = silent,
) -> Gallery | None:
    """Draw the filters of a run over photos of its training split, into ``gallery/`` of its folder.

    Args:
        run: The run folder.
        project: The project that the run was made from.
        options: How much is shown; default `GalleryOptions`.
        progress: Told of each layer.

    Returns:
        What was drawn; ``None`` where the run kept no importance (the method ``original`` ranks
        anew for each candidate), or nothing can be shown.

    Raises:
        DataError: A file of the run is damaged, or the backbone's weights are not those of the run.
    """
    run = Path(run)
    if not (run / IMPORTANCE).is_file():
        return None
    told = read_json(run / RUN)
    conditions, training = told["conditions"], set(told["photos"]["train"])
    backbone = load_backbone(
        conditions["backbone"],
        weights=conditions["weights"],
        arch=conditions.get("arch"),
        preprocessing=conditions.get("preprocessing"),
    )
    if backbone.provenance.sha256 != conditions["weights_sha256"]:
        raise DataError(
            f"the weights of {backbone.name} are not those of {printable(run)}: run it again"
        )
    pairs = find_pairs(project.photos, project.masks).pairs
    return write_gallery(
        backbone,
        [pair for pair in pairs if pair.key in training],
        read_arrays(run / IMPORTANCE),
        run / GALLERY,
        classes=project.classes,
        targets=project.classes.targets(conditions["targets"]),
        options=options or GalleryOptions(),
        progress=progress,
    )

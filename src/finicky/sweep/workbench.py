"""What every candidate is made from, opened once in a process, and the making of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from finicky.backbones import Backbone
from finicky.backbones.truncation import truncate
from finicky.classes import MaskClass
from finicky.files import atomic_path, read_json, write_json
from finicky.progress import Progress, silent
from finicky.pruning import Cutter, PruningPlan, restore, save_pruned
from finicky.ranking import unpruned_plan
from finicky.sweep.candidate import evaluate_candidate
from finicky.sweep.glance import glance
from finicky.sweep.identity import Candidate
from finicky.sweep.inputs import TileSet
from finicky.sweep.settings import SweepSettings
from finicky.sweep.trained import TrainingTiles
from finicky.sweep.training_kinds import FROZEN
from finicky.training import MarkedTiles, ReconstructionSettings, Reconstructor

# The number of threads changes the last bits of a sum. One for each candidate, however many
# candidates are made side by side, gives the same bytes on one core and on all.
THREADS = 1
TILES = "tiles.npy"
# Unlabelled tiles that a glance's repair is fitted to; the repair of a large network takes longer
# than all else in a glance.
GLANCE_TILES = 256


@dataclass
class Workbench:
    """Backbone, tiles and settings; what not every run needs is made when a candidate asks.

    ``cut_training`` cuts the tiles that candidates are trained on after the cut; each may take
    ``train_time_s``.
    """

    backbone: Backbone
    data: TileSet
    settings: SweepSettings
    target: MaskClass
    progress: Progress = field(default=silent, repr=False)
    cut_training: Callable[[], TrainingTiles] | None = field(default=None, repr=False)
    train_time_s: float | None = None
    _shorter: dict[str, Backbone] = field(default_factory=dict, repr=False)
    _cutters: dict[str, Cutter] = field(default_factory=dict, repr=False)

    def make(
        self, candidate: Candidate, plan: PruningPlan, here: Path, *, progress: Progress = silent
    ) -> dict[str, Any]:
        """Cut, train, test and export one candidate into ``here``; returns its metrics."""
        with threads(THREADS):
            cutter = self.cutter(candidate.depth)
            repair = not candidate.unpruned and set(self.settings.repairs) != {"none"}
            return evaluate_candidate(
                candidate,
                cutter,
                plan,
                self.data,
                self.settings,
                here,
                self.target,
                reconstructor=self.reconstructor if repair else None,
                tiles=self.training if candidate.train != FROZEN else None,
                train_time_s=self.train_time_s,
                progress=progress,
            )

    def glance(
        self, plan: PruningPlan, share: float, *, progress: Progress = silent
    ) -> dict[str, Any]:
        """Look at a network on a share of the training photographs; returns a `Seen`, plain."""
        with threads(THREADS):
            repair = self.settings.repairs[0] != "none"
            return glance(
                self.cutter().cut(plan.decisions),
                plan,
                share,
                self.data,
                self.settings,
                reconstructor=self.reconstructor.fewer(GLANCE_TILES) if repair else None,
                progress=progress,
            ).to_json()

    def cutter(self, depth: str = "") -> Cutter:
        """Cuts the unpruned network, to a depth; what belongs together in it is found once."""
        if depth not in self._cutters:
            whole = replace(self.at(depth), head=None)
            self._cutters[depth] = Cutter(whole, whole.trace_size)
        return self._cutters[depth]

    def at(self, depth: str) -> Backbone:
        """The unpruned network, to the depth at which a candidate ends."""
        if not depth:
            return self.backbone
        if depth not in self._shorter:
            self._shorter[depth] = truncate(self.backbone, depth, size=self.settings.tile)
        return self._shorter[depth]

    def lay_out(self, place: Path) -> None:
        """Write what another process needs to make the same candidates; see `open`."""
        plan = unpruned_plan(self.backbone)
        save_pruned(self.backbone, plan, place / "backbone", size=self.settings.tile)
        for name in ("tiles", "labels", "groups", "splits"):
            _write(place / f"{name}.npy", getattr(self.data, name))
        if self.settings.trains:
            _write_training(self.training, place)
        value = {
            "settings": self.settings.to_json(),
            "target": asdict(self.target),
            "train_time_s": self.train_time_s,
        }
        write_json(place / "bench.json", value)

    @classmethod
    def open(cls, place: Path, tiles: np.ndarray | None = None) -> Self:
        """What `lay_out` wrote; the tiles stay on disk and are shared by all that map them.

        Args:
            place: Where it lies; not needed any more afterwards.
            tiles: Instead of those in ``place``, if they are shared in another way.
        """
        backbone, _ = restore(place / "backbone")
        if tiles is None:
            tiles = np.load(place / TILES, mmap_mode="r")
        rest = (np.load(place / f"{name}.npy") for name in ("labels", "groups", "splits"))
        value = read_json(place / "bench.json")
        settings = SweepSettings.from_json(value["settings"])
        target = MaskClass(**value["target"])
        data, time_s = TileSet(tiles, *rest), value["train_time_s"]
        bench = cls(backbone, data, settings, target, train_time_s=time_s)
        if (place / "train-tiles.npy").is_file():
            training = _read_training(place)
            bench.cut_training = lambda: training
        return bench

    @cached_property
    def reconstructor(self) -> Reconstructor:
        return make_reconstructor(self.backbone, self.data, self.settings, self.progress)

    @cached_property
    def training(self) -> TrainingTiles:
        assert self.cut_training is not None, "this bench was made without tiles to train on"
        return self.cut_training()


def _write_training(training: TrainingTiles, place: Path) -> None:
    for part in ("train", "validation"):
        for name, values in vars(getattr(training, part)).items():
            if values is not None:
                _write(place / f"{part}-{name}.npy", values)


def _read_training(place: Path) -> TrainingTiles:
    def part(name: str) -> MarkedTiles:
        files = {kind: place / f"{name}-{kind}.npy" for kind in ("tiles", "labels", "masks")}
        return MarkedTiles(
            **{k: np.load(f, mmap_mode="c") for k, f in files.items() if f.is_file()}
        )

    return TrainingTiles(part("train"), part("validation"))


def _write(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, values, allow_pickle=False)


def make_reconstructor(
    backbone: Backbone, data: TileSet, settings: SweepSettings, progress: Progress = silent
) -> Reconstructor:
    """Shows the unpruned network a random draw of training tiles."""
    options = ReconstructionSettings(seed=settings.seed)
    train = np.random.default_rng(settings.seed).permutation(data.rows("train"))
    tiles = np.array(data.tiles[np.sort(train[: options.tiles])])
    inputs = backbone.preprocessing(torch.from_numpy(tiles))
    return Reconstructor(backbone, inputs, options, progress=progress)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads for torch and for what numpy and SciPy compute with; as before afterwards."""
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

"""What a sweep is asked to do, checked before any work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from finicky.errors import UsageError, nearest_names
from finicky.importance import DEFAULT_CRITERION, criterion
from finicky.pruning import METHODS, check_keep_ratio
from finicky.pruning import parse_ratios as parse_ratios
from finicky.selection import Constraints, Weights
from finicky.sweep.training_kinds import AUTO, FROZEN, check_kinds
from finicky.training import FEATURE_KINDS

DEFAULT_KEEP_RATIOS = (0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)

REPAIRS = ("auto", "reconstruct", "rescale", "none")


@dataclass(frozen=True)
class SweepSettings:
    """Everything that a sweep's numbers depend on, besides the data.

    Attributes:
        backbone: Name, folder or file; see `load_backbone`.
        weights: Where its weights come from; ``None``: a pip package.
        arch: For a file of weights, their architecture.
        preprocessing: What the network expects of photos, where its file does not say.
        method: ``finicky`` or ``original``.
        criterion: What ranks filters under ``finicky``.
        repair: ``reconstruct``: after the cut, fit each convolution to the unpruned responses on
            unlabelled training tiles; ``rescale``: bring each channel to the mean and spread that
            it had there; ``none``: leave the weights as they were; ``auto``: try reconstruct and
            none and keep what has the better balanced accuracy on validation, but ``none`` for
            ``original``.
        round_to: Under ``finicky``, channel counts from this number up become multiples of it,
            because processors work on so many channels at once.
        keep_ratios: In (0, 1); the unpruned network, 1, is always added.
        tile: Side of a tile in px.
        features: How the last map becomes a vector; see `Features`.
        targets: Classes that count as evidence; empty: those of role target.
        min_coverage: Least share of a tile that the target covers, in (0, 1].
        tiles_per_photo: At most so many tiles of each class from one photo; ``None``: all.
        head_seeds: How many heads are trained on different 75 % of the training photos.
        seed: Of splits, tile choice and folds.
        latency_seconds: How long each candidate is timed, at one thread and at all cores; 0
            leaves latency out.
        train: What is done after the cut, each a candidate of its own: ``frozen``, ``finetune``,
            ``scratch`` (the same shape with fresh weights); or ``auto``: all frozen, and few, small
            ones of the other kinds (none for ``original``); see `train_few`.
        train_time_s: For all trained candidates together, divided evenly among those that a sweep
            makes, or a search usually asks for at most; ``None``: each does a fixed amount of work.
        depth: Where networks end: ``full``, at the last layer; ``auto``, also where they tell the
            target best on training tiles, if that is earlier; ``all``, everywhere; or names of
            convolutions, with commas.
        maps: Whether the chosen candidate gets a pixel head, for a map finer than a tile.
    """

    backbone: str = "vgg16"
    weights: str | None = None
    arch: str | None = None
    preprocessing: str | None = None
    method: str = "finicky"
    criterion: str = DEFAULT_CRITERION
    repair: str = "auto"
    round_to: int = 16
    keep_ratios: tuple[float, ...] = DEFAULT_KEEP_RATIOS
    tile: int = 96
    features: str = "mean+max"
    targets: tuple[str, ...] = ()
    min_coverage: float = 0.01
    tiles_per_photo: int | None = None
    head_seeds: int = 5
    seed: int = 0
    latency_seconds: float = 1.0
    train: tuple[str, ...] = (AUTO,)
    train_time_s: float | None = None
    maps: bool = True
    depth: str = "full"

    def __post_init__(self) -> None:
        for name in ("keep_ratios", "targets", "train"):
            value = getattr(self, name)
            if not isinstance(value, tuple | list):
                raise UsageError(f"{name} takes several: write {name}=({value!r},)")
        if self.method not in METHODS:
            raise UsageError(
                f"no method named {self.method!r}. {nearest_names(self.method, METHODS)}"
            )
        criterion(self.criterion)
        if self.repair not in REPAIRS:
            raise UsageError(
                f"no repair named {self.repair!r}. {nearest_names(self.repair, REPAIRS)}"
            )
        if self.features not in FEATURE_KINDS:
            raise UsageError(
                f"no features named {self.features!r}. "
                f"{nearest_names(self.features, FEATURE_KINDS)}"
            )
        check_kinds(self.train, self.train_time_s)
        if self.train_time_s is not None and not self.trains:
            raise UsageError("--time limits training, and the method original trains none")
        if self.round_to < 1:
            raise UsageError(f"round_to must be at least 1, got {self.round_to}")
        if not self.keep_ratios:
            raise UsageError("at least one keep ratio is needed, such as --keep 0.1,0.2")
        for ratio in self.keep_ratios:
            if check_keep_ratio(ratio) != round(ratio, 6):
                raise UsageError(f"keep ratios have at most 6 decimals, got {ratio!r}")
        if self.seed < 0:
            raise UsageError(f"seed must be 0 or more, got {self.seed}")
        if not 0 <= self.latency_seconds <= 3600:
            raise UsageError(f"latency seconds must be 0 to 3600, got {self.latency_seconds:g}")
        if self.tile < 16:
            raise UsageError(f"tile must be at least 16 px, got {self.tile}")
        if not 0 < self.min_coverage <= 1:
            raise UsageError(f"min coverage must be in (0, 1], got {self.min_coverage:g}")
        looks = "joint" in criterion(self.criterion).needs
        if self.depth.strip(" ,") == "auto" and self.method == "finicky" and not looks:
            raise UsageError(
                f"--depth auto needs the evidence of --criterion coverage, got {self.criterion}: "
                "name convolutions, or --depth all"
            )
        if self.method == "original" and self.depth != "full":
            raise UsageError("the method original knows one depth only: leave --depth out")
        if self.head_seeds < 1:
            raise UsageError(f"at least 1 head seed is needed, got {self.head_seeds}")

    @property
    def repairs(self) -> tuple[str, ...]:
        """What is tried after the cut, each of ``reconstruct``, ``rescale`` and ``none``."""
        if self.repair != "auto":
            return (self.repair,)
        return ("none",) if self.method == "original" else ("reconstruct", "none")

    def ratios(self) -> tuple[float, ...]:
        """The unpruned network first, then the keep ratios, largest first, each once."""
        return tuple(sorted({1.0, *self.keep_ratios}, reverse=True))

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is done at every keep ratio after the cut."""
        return (FROZEN,) if self.train == (AUTO,) else self.train

    @property
    def trains_few(self) -> bool:
        """Whether few candidates are trained once the frozen ones are known."""
        return self.train == (AUTO,) and self.method != "original"

    @property
    def trains(self) -> bool:
        """Whether any candidate is trained after the cut."""
        return self.trains_few or set(self.kinds) != {FROZEN}

    def candidates(self) -> tuple[tuple[float, str], ...]:
        """Keep ratio and kind of training of every candidate, the unpruned network first.

        The unpruned network is frozen: it is what all others are measured by.
        """
        trained = [(r, kind) for r in self.ratios() if r < 1 for kind in self.kinds]
        return ((1.0, FROZEN), *trained)

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in value.items()
        }
        return cls(**fields)


@dataclass(frozen=True)
class DecisionSettings:
    """How the best candidate is chosen; see `choose`. Changing it re-uses all other work."""

    decision: str = "weighted"
    weights: Weights = Weights()
    constraints: Constraints = Constraints()

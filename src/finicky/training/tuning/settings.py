"""How a network is trained after the cut."""

from __future__ import annotations

from dataclasses import dataclass, field

from finicky.errors import UsageError
from finicky.training.tuning.augment import SurfaceAugmentation


@dataclass(frozen=True)
class FinetuneSettings:
    """How a network is trained after the cut.

    Attributes:
        epochs: At most; few tiles are gone through several times an epoch (``least_steps``).
        time_s: At most so many seconds; fewer epochs are planned after the first one's time.
            Numbers then depend on the machine: what was done is in `Trained`.
        batch: Tiles in a step.
        least_steps: Of an epoch.
        most_steps: Of an epoch; of more tiles, each epoch draws others.
        rate: Peak learning rate as a share of each layer's own weights (see `rates_by_layer`).
        patience: Epochs without a better validation after which it ends.
        mask_weight: Of the auxiliary loss against the tiles' own; 0: masks are not used.
        soft_weight: Of the teacher's answers against the labels, in [0, 1], on labelled tiles.
        augmentation: How tiles are changed.
        seed: Of order and draws, and of fresh weights.
        fresh: Forget the weights: the same shape from scratch.
    """

    epochs: int = 30
    time_s: float | None = None
    batch: int = 32
    least_steps: int = 20
    most_steps: int = 10**6
    rate: float = 0.01
    patience: int = 12
    mask_weight: float = 1.0
    soft_weight: float = 0.5
    augmentation: SurfaceAugmentation = field(default_factory=SurfaceAugmentation)
    seed: int = 0
    fresh: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "least_steps", "patience"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.rate < 1:
            raise UsageError(f"rate must be in (0, 1), got {self.rate:g}")
        if self.time_s is not None and not self.time_s > 0:
            raise UsageError(f"the time for training must be above 0 s, got {self.time_s:g}")
        if not 0 <= self.soft_weight <= 1:
            raise UsageError(f"soft weight must be in [0, 1], got {self.soft_weight:g}")
        if self.mask_weight < 0:
            raise UsageError(f"mask weight must be at least 0, got {self.mask_weight:g}")

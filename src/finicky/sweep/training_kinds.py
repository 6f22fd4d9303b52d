"""What can be done after the cut, by name, and how long it may take."""

from __future__ import annotations

import re

from finicky.errors import UsageError, nearest_names

FROZEN, FINETUNE, SCRATCH = "frozen", "finetune", "scratch"
# Every ratio frozen, few of them trained; see `train_few`.
AUTO = "auto"
TRAIN_KINDS = (FROZEN, FINETUNE, SCRATCH)
KIND_WORDS = {FROZEN: "frozen", FINETUNE: "fine-tuned", SCRATCH: "from scratch"}
_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def parse_kinds(text: str) -> tuple[str, ...]:
    """``frozen,finetune``, ``all`` or ``auto`` to kinds, each once, in their usual order."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    return check_kinds(TRAIN_KINDS if named == ["all"] else tuple(named))


def check_kinds(kinds: tuple[str, ...], time_s: float | None = None) -> tuple[str, ...]:
    """The kinds in their usual order; unknown ones, none, and time for nothing are refused."""
    for kind in kinds:
        if kind not in (AUTO, *TRAIN_KINDS):
            raise UsageError(
                f"no training named {kind!r}. {nearest_names(kind, (AUTO, *TRAIN_KINDS))} Several "
                "go with commas, all means all three"
            )
    if AUTO in kinds and set(kinds) != {AUTO}:
        raise UsageError("the training auto chooses by itself what to train: name no other kind")
    if not kinds:
        raise UsageError("at least one training is needed, such as --train frozen")
    if time_s is not None and not time_s > 0:
        raise UsageError(f"the time for training must be above 0 s, got {time_s:g}")
    if time_s is not None and set(kinds) == {FROZEN}:
        raise UsageError("--time limits training, and frozen trains none: add --train finetune")
    return tuple(kind for kind in (AUTO, *TRAIN_KINDS) if kind in kinds)


def parse_time(text: str) -> float:
    """``10min``, ``90s``, ``1.5h`` to seconds."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|min|m|h)\s*", text.lower())
    if found is None or not float(found[1]) > 0:
        raise UsageError(f"a time is a number above 0 with s, min or h, as 10min, got {text!r}")
    return float(found[1]) * _UNITS[found[2]]

"""``run.json``: what a run was made from, and what the last start was asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from finicky.backbones import Backbone
from finicky.errors import DataError
from finicky.files import read_json, write_json
from finicky.project import Project
from finicky.selection import Constraints, Weights
from finicky.sweep.folder import RUN, RunFolder
from finicky.sweep.inputs import Evidence
from finicky.sweep.limits import Limit
from finicky.sweep.search import SearchSettings
from finicky.sweep.settings import DecisionSettings, SweepSettings
from finicky.timing import environment


@dataclass(frozen=True)
class Asked:
    """What a start was asked for, budgets worked into all of it."""

    settings: SweepSettings
    decision: DecisionSettings
    search: SearchSettings | None
    limit: Limit

    def to_json(self) -> dict[str, Any]:
        """A plain value for JSON."""
        return {
            "settings": self.settings.to_json(),
            "decision": asdict(self.decision),
            "search": None if self.search is None else asdict(self.search),
            "budget": self.limit.to_json(),
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """From a ``run.json``; one that does not say is a `DataError`."""
        try:
            asked = read_json(path)["asked"]
            choice, search = asked["decision"], asked["search"]
            decision = DecisionSettings(
                choice["decision"],
                Weights(**choice["weights"]),
                Constraints(**choice["constraints"]),
            )
            return cls(
                SweepSettings.from_json(asked["settings"]),
                decision,
                None if search is None else SearchSettings.from_json(search),
                Limit.from_json(asked["budget"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path} does not say what was asked for: it is damaged, or of another version"
            ) from error


def write_run(
    folder: RunFolder,
    project: Project,
    evidence: Evidence,
    backbone: Backbone,
    conditions: dict[str, Any],
    asked: Asked,
) -> None:
    """Write ``run.json``: under which conditions, from which photos, and what was asked for."""
    groups: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    for pair in evidence.usable:
        split, _ = evidence.splits[pair.key]
        groups[split].append(pair.key)
    value = {
        "format": "finicky-run",
        "version": 1,
        "written": datetime.now().astimezone().isoformat(timespec="seconds"),
        "conditions": conditions,
        "project": project.root.name,
        "photos": groups,
        "asked": asked.to_json(),
        "rejected": [[str(r.path), r.reason] for r in evidence.rejected],
        "provenance": backbone.provenance.to_json(),
        "environment": environment(),
    }
    write_json(folder.root / RUN, value)

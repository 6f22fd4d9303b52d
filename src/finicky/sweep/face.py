"""A sweep as a Python object: candidates as they finish, the best, the front, a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from finicky.backbones import Backbone
from finicky.errors import (
    DataError,
    FinickyError,
    MissingDependencyError,
    UsageError,
    nearest_names,
)
from finicky.progress import Progress, silent
from finicky.project import Project
from finicky.pruning import restore
from finicky.pruning.budget import parse_budgets
from finicky.sweep.decide import front_of, leader_of, select_again
from finicky.sweep.events import Listener, unheard
from finicky.sweep.execution import Execution
from finicky.sweep.executors import Outcome
from finicky.sweep.folder import RESULTS, RUN, RunFolder
from finicky.sweep.limits import Limit
from finicky.sweep.record import Asked
from finicky.sweep.run import sweeping
from finicky.sweep.search import SearchSettings
from finicky.sweep.settings import DEFAULT_KEEP_RATIOS, DecisionSettings, SweepSettings
from finicky.sweep.table import (
    COLUMNS,
    FAILED,
    TEXT_COLUMNS,
    Row,
    failed_row,
    quality_columns,
    read_table,
)

_WHOLE = ("channels", "params", "macs", "size_bytes", "pareto", "selected")


@dataclass(frozen=True)
class SweepCandidate:
    """One candidate of a sweep, and what is known of it.

    Attributes:
        row: Its columns of ``results.csv``, as far as they are known: times, score, front and
            choice follow when all candidates are there.
        folder: Where its files lie.
    """

    row: Mapping[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """Its folder's name; ``keep-1`` is the unpruned network."""
        return str(self.row["candidate"])

    @property
    def keep_ratio(self) -> float:
        """Share of channels that stay, in (0, 1]."""
        return float(self.row["keep_ratio"])

    @property
    def failed(self) -> str:
        """Why it could not be made; empty where it was."""
        return str(self.row.get(FAILED) or "")

    def __getitem__(self, column: str) -> Any:
        """A column of ``results.csv``; ``None`` where it is empty or not yet known."""
        if column not in COLUMNS:
            raise KeyError(f"no column named {column!r}. {nearest_names(column, COLUMNS)}")
        return self.row.get(column)

    def load(self) -> Backbone:
        """The cut network, as `finicky.load` gives it."""
        if self.failed:
            raise DataError(f"{self.name} could not be made: {self.failed}")
        return restore(self.folder)[0]

    def __str__(self) -> str:
        if self.failed:
            return f"{self.name}: could not be made: {self.failed}"
        quality = self["val_balanced_accuracy"]
        told = "undefined" if quality is None else f"{quality:.3f}"
        return (
            f"{self.name}: balanced accuracy {told} on validation, {self['params']:,.0f} parameters"
        )


class Sweep:
    """A sweep, as ``finicky run`` makes it: iterate over it, and candidates come as they finish.

    Nothing is done before the first candidate is asked for. Breaking off the iteration stops the
    sweep as Ctrl-C stops the command; to iterate again, or to make the same object anew, goes on
    where it was. At the end all candidates are timed and the best is chosen.

    Args:
        project: Labelled photos: a `Project` or its folder.
        out: The run folder: new, empty, or of an earlier start of the same run.
        settings: What to try; by default `SweepSettings` with ``options``.
        decision: How to choose.
        search: How keep ratios are searched for. Default: as the command does, unless the settings
            name keep ratios other than the default: then those are evaluated.
        budgets: What a network may cost, as ``params=7%``; one, or several.
        execution: Where candidates are made; changes no number.
        force: Throw away an earlier run under other conditions.
        progress: Told what is done of what.
        listen: Told of every event; see `Event`.
        options: Fields of `SweepSettings`, such as ``backbone="alexnet"``, ``keep_ratios=(0.1,)``.

    Raises:
        UsageError: An option is unknown or out of range. What `run_sweep` raises comes when the
            first candidate is asked for.
    """

    def __init__(
        self,
        project: Project | str | Path,
        out: str | Path,
        settings: SweepSettings | None = None,
        decision: DecisionSettings = DecisionSettings(),
        *,
        search: SearchSettings | None = None,
        budgets: str | Sequence[str] = (),
        execution: Execution = Execution(),
        force: bool = False,
        progress: Progress = silent,
        listen: Listener = unheard,
        **options: Any,
    ) -> None:
        self._project: Project | None = (
            project if isinstance(project, Project) else Project.open(Path(project))
        )
        self._folder = RunFolder(Path(out))
        self._settings, self._decision = _merged(settings, options), decision
        named = self._settings.keep_ratios != DEFAULT_KEEP_RATIOS
        self._search = search or (None if named else SearchSettings())
        self._budgets = parse_budgets(budgets)
        self._limit: Limit | None = None
        self._execution, self._force = execution, force
        self._progress, self._listen = progress, listen
        self._found: dict[str, SweepCandidate] = {}
        self._over = False

    @classmethod
    def open(
        cls,
        folder: str | Path,
        project: Project | str | Path | None = None,
        *,
        execution: Execution = Execution(),
        progress: Progress = silent,
        listen: Listener = unheard,
    ) -> Self:
        """A run folder that is finished, or half done: what is there can be read at once.

        Args:
            folder: Where an earlier sweep, or ``finicky run``, was started.
            project: What it was made from, to go on; by default the one whose ``runs`` it lies in.
            execution: Where the rest is made.
            progress: Told what is done of what.
            listen: Told of every event.

        Raises:
            UsageError: It holds no run.
            DataError: Its ``run.json`` is damaged.
        """
        root = Path(folder)
        if not (root / RUN).is_file():
            raise UsageError(f"{root} holds no {RUN}: name the folder of a run")
        asked = Asked.read(root / RUN)
        sweep = cls.__new__(cls)
        sweep._project = _project_of(root, project)
        sweep._folder, sweep._settings = RunFolder(root), asked.settings
        sweep._decision, sweep._search = asked.decision, asked.search
        sweep._budgets, sweep._limit = (), asked.limit
        sweep._execution, sweep._force = execution, False
        sweep._progress, sweep._listen = progress, listen
        sweep._found, sweep._over = {}, sweep._folder.done
        sweep._read()
        return sweep

    @property
    def folder(self) -> Path:
        """The run folder; ``selected/`` in it holds the best, ready for `export_bundle`."""
        return self._folder.root

    @property
    def finished(self) -> bool:
        """Whether all candidates are there, timed, and one is chosen."""
        return self._over

    @property
    def candidates(self) -> tuple[SweepCandidate, ...]:
        """All so far, failed ones included, the unpruned network first."""
        return tuple(self._found.values())

    @property
    def best(self) -> SweepCandidate | None:
        """The chosen one; before the end, who leads on validation. ``None`` where nobody does."""
        if self._over:
            return next((c for c in self._made() if c.row["selected"] == 1), None)
        leader = leader_of([dict(c.row) for c in self._made()], self._decision)
        return None if leader is None else self._found[leader[0]]

    @property
    def pareto(self) -> tuple[SweepCandidate, ...]:
        """The front: no other is both better, by F1 on validation, and smaller."""
        made = self._made()
        front = front_of([dict(c.row) for c in made]) if made else []
        return tuple(c for c, on in zip(made, front, strict=True) if on)

    def __iter__(self) -> Iterator[SweepCandidate]:
        """Candidates as they finish, those of earlier starts first."""
        if self._over:
            yield from self.candidates
            return
        if self._project is None:
            raise UsageError(
                f"{self.folder} is not finished, and its project is not known: go on with "
                "Sweep.open(folder, project)"
            )
        steps = sweeping(
            self._project,
            self.folder,
            self._settings,
            self._decision,
            execution=self._execution,
            search=self._search,
            budgets=self._budgets,
            limit=self._limit,
            force=self._force,
            progress=self._progress,
            listen=self._listen,
        )
        self._found = {}
        try:
            for outcome in steps:
                yield self._note(outcome)
        finally:
            steps.close()
        self._over = True
        self._read()

    def run(self) -> Self:
        """Go on to the end; returns itself."""
        for _ in self:
            pass
        return self

    def select(self, decision: DecisionSettings) -> Self:
        """Choose again in a finished sweep, as ``finicky select`` does; returns itself."""
        select_again(self.folder, decision, progress=self._progress)
        self._decision, self._over = decision, self._folder.done
        self._read()
        return self

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row a candidate and the columns of ``results.csv``.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise MissingDependencyError("to_pandas needs pandas: pip install pandas") from error
        frame = pandas.DataFrame([c.row for c in self.candidates], columns=list(COLUMNS))
        kinds = {
            column: "string" if column in (*TEXT_COLUMNS, FAILED) else "Float64"
            for column in COLUMNS
        }
        return frame.astype(kinds | dict.fromkeys(_WHOLE, "Int64"))

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        best = self.best
        how = "finished" if self._over else "not finished"
        told = f", best {best.name}" if best is not None else ""
        return f"<Sweep {self.folder}: {how}, {len(self)} candidates{told}>"

    def _made(self) -> list[SweepCandidate]:
        return [c for c in self._found.values() if not c.failed]

    def _note(self, outcome: Outcome) -> SweepCandidate:
        """Remember what came of a candidate."""
        row = (
            failed_row(outcome.candidate, outcome.reason)
            if outcome.metrics is None
            else quality_columns(outcome.metrics)
        )
        name = outcome.candidate.name
        self._found[name] = SweepCandidate(row, self._folder.candidate(name))
        return self._found[name]

    def _read(self) -> None:
        """All that the folder holds: the table where it is finished, or what is sealed so far."""
        rows: list[Row] = []
        if self._over:
            table = self.folder / RESULTS
            rows = [*read_table(table), *read_table(table, failed=True)]
        else:
            names = sorted(here.name for here in self.folder.glob("candidates/[!.]*"))
            sealed = (self._folder.finished(name) for name in names)
            rows = [quality_columns(metrics) for metrics in sealed if metrics is not None]
            rows.sort(key=lambda row: -float(row["keep_ratio"]))
        self._found = {}
        for row in rows:
            name = str(row["candidate"])
            known = {column: None if value != value else value for column, value in row.items()}
            self._found[name] = SweepCandidate(known, self._folder.candidate(name))


def _merged(settings: SweepSettings | None, options: dict[str, Any]) -> SweepSettings:
    """Settings with some of their fields given by name."""
    known = [field.name for field in fields(SweepSettings)]
    for name in options:
        if name not in known:
            raise UsageError(f"no setting named {name!r}. {nearest_names(name, known)}")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return replace(settings or SweepSettings(), **plain)


def _project_of(root: Path, given: Project | str | Path | None) -> Project | None:
    """The project of a run: the one that is named, or the one whose ``runs`` the folder lies in."""
    if isinstance(given, Project):
        return given
    if given is not None:
        return Project.open(Path(given))
    with suppress(FinickyError):
        project = Project.open(root.resolve().parent.parent)
        if project.runs.resolve() == root.resolve().parent:
            return project
    return None

"""How many candidates a start will ask for, as far as its settings tell, and the time for each."""

from __future__ import annotations

from dataclasses import dataclass

from finicky.sweep.after_search import count_few
from finicky.sweep.search import SearchSettings
from finicky.sweep.settings import SweepSettings
from finicky.sweep.training_kinds import FROZEN


@dataclass(frozen=True)
class Extent:
    """Of a sweep, or of a search, which usually evaluates so many ratios at most.

    Attributes:
        settings: Of the sweep.
        search: Which keep ratios are looked for; ``None``: all of the settings are evaluated.
        ends: At how many earlier layers candidates end too.
    """

    settings: SweepSettings
    search: SearchSettings | None
    ends: int

    @property
    def ratios(self) -> tuple[float, ...]:
        """Those that may be tried, below 1 or not."""
        return self.settings.keep_ratios if self.search is None else self.search.grid

    @property
    def candidates(self) -> int:
        """All of them, the unpruned network with them."""
        return 1 + self._at_each(len(self.settings.kinds)) + self._few

    @property
    def trained(self) -> int:
        """How many of them are trained."""
        return self._at_each(sum(kind != FROZEN for kind in self.settings.kinds)) + self._few

    @property
    def time_each_s(self) -> float | None:
        """What each trained candidate may take of the time for all of them."""
        limit = self.settings.train_time_s
        return None if limit is None or not self.trained else limit / self.trained

    @property
    def _few(self) -> int:
        """How many are trained once the frozen ones are known."""
        return count_few(self.ratios) if self.settings.trains_few else 0

    def _at_each(self, kinds: int) -> int:
        """Candidates of so many kinds at every ratio and depth."""
        search = self.search
        count = len(self.settings.ratios()) - 1 if search is None else search.usually_evaluated
        return count * kinds * (1 + self.ends)

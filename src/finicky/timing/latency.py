"""How long an ONNX file takes to answer, next to the unpruned network, in turn.

On a shared or warming machine a time drifts by tens of per cent within minutes, so a table of
times measured one after the other compares moments as much as networks. Here the reference and a
candidate take turns in short blocks (A B A B A ...). Each block of the candidate is compared with
the mean of the reference's blocks before and after it, so that a steady drift cancels, and the
median of these ratios is the speed-up, so that a disturbed round does not count. Trust the ratio;
read the milliseconds as "on this machine, in that minute".

Threads of ONNX Runtime spin while they wait, by default also for a while *after* an answer, and
would then take the cores from the network whose turn is next: in a trial with two cores the
reference took 1.7 times longer in turn than alone. So spinning is stopped when an answer is done
(``session.force_spinning_stop``) and left on inside it, as it is in use; with that setting times
in turn and alone agreed within 3 %. Switching it off altogether would slow small networks (by
half in that trial) and so understate their gain.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finicky.errors import DataError, ShapeError, UsageError
from finicky.progress import Progress, silent

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

Floats = NDArray[np.float64]
Run = Callable[[], object]

# Below 5 rounds a median of ratios has no spread worth the name; above 200 runs a block of a fast
# network only adds calls.
FEWEST_ROUNDS = 5
MOST_RUNS_A_BLOCK = 200


@dataclass(frozen=True)
class LatencyStats:
    """Time of one call, in ms, over ``runs`` timed calls of one batch.

    ``batch`` images a call, ``threads`` of ONNX Runtime. Below about 20 runs ``p95_ms``, and
    below about 100 ``p99_ms``, is hardly more than the slowest call.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_ms: float
    runs: int
    threads: int
    batch: int


@dataclass(frozen=True)
class LatencyComparison:
    """One candidate against the reference, measured in turn.

    ``ratio`` is the reference's time over the candidate's: 10 means ten times faster. ``ratio_low``
    and ``ratio_high`` bound it (95 %, bootstrap over rounds; NaN with one round): how well *this*
    measurement pins the ratio down, not how it varies between machines. ``reference`` is the
    reference in the same minute as ``stats``.
    """

    path: Path
    stats: LatencyStats
    reference: LatencyStats
    ratio: float
    ratio_low: float
    ratio_high: float
    rounds: int


@dataclass(frozen=True)
class LatencyReport:
    """All comparisons, in the order of the candidates, and the reference over all its calls."""

    reference: LatencyStats
    candidates: tuple[LatencyComparison, ...]


@dataclass(frozen=True)
class TurnPlan:
    """How many turns at most, untimed calls and seconds one comparison gets."""

    rounds: int
    warmup: int
    seconds: float


def measure_in_turn(
    reference: Path,
    candidates: Sequence[Path],
    *,
    inputs: NDArray[Any],
    threads: int = 1,
    rounds: int = 15,
    warmup: int = 3,
    seconds_per_candidate: float = 1.5,
    progress: Progress = silent,
) -> LatencyReport:
    """Latency of ONNX files on the CPU, each in turn with the reference.

    Two sessions live at a time, whatever the number of candidates. Without candidates the
    reference is measured alone.

    Args:
        reference: ONNX file with one input (the unpruned network).
        candidates: ONNX files with an input of the same kind.
        inputs: The batch of every call, ``(B, H, W, 3)`` uint8 tiles for files of this project.
        threads: Threads of ONNX Runtime; 0 = all cores this process may use.
        rounds: Turns at most; fewer (but 5, or ``rounds`` if less) where the budget is short.
        warmup: Untimed calls of each network before its turns, at least 1.
        seconds_per_candidate: Budget of a comparison, both networks together, without loading
            and warm-up. Slow networks exceed it: 5 rounds need 11 calls.
        progress: Told ``"latency"``, candidates done, candidates in all.

    Raises:
        DataError: A file is missing, or ONNX Runtime cannot load it or run it on ``inputs``.
        ShapeError: ``inputs`` holds nothing.
        UsageError: A number is out of range.
    """
    _check(inputs, threads=threads, rounds=rounds, warmup=warmup, seconds=seconds_per_candidate)
    threads = threads or available_cores()
    plan = TurnPlan(rounds=rounds, warmup=warmup, seconds=seconds_per_candidate)
    base = _runner(Path(reference), inputs, threads)
    progress("latency", 0, len(candidates))
    if not candidates:
        alone, again = time_in_turn(base, base, plan)
        return LatencyReport(summarise(alone + again, threads, len(inputs)), ())
    found, base_blocks = [], []
    for done, path in enumerate(map(Path, candidates), start=1):
        turns = time_in_turn(base, _runner(path, inputs, threads), plan)
        found.append(_compare(path, *turns, threads=threads, batch=len(inputs)))
        base_blocks += turns[0]
        progress("latency", done, len(candidates))
    return LatencyReport(summarise(base_blocks, threads, len(inputs)), tuple(found))


def available_cores() -> int:
    """Logical cores that this process may use; fewer than the machine has in a container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def time_in_turn(
    reference: Run, candidate: Run, plan: TurnPlan, clock: Callable[[], float] = time.perf_counter
) -> tuple[list[Floats], list[Floats]]:
    """Times in ms, one array a block: R + 1 blocks of the reference around R of the candidate.

    All blocks get about the same time, hence a fast network many more calls than a slow one.
    """
    time_a, time_b = (_warm(run, plan.warmup, clock) for run in (reference, candidate))
    rounds = min(plan.rounds, max(int((plan.seconds - time_a) / (time_a + time_b)), FEWEST_ROUNDS))
    share = plan.seconds / (2 * rounds + 1)
    calls_a, calls_b = (min(max(int(share / t), 1), MOST_RUNS_A_BLOCK) for t in (time_a, time_b))
    references, candidates = [_timed(reference, calls_a, clock)], []
    for _ in range(rounds):
        candidates.append(_timed(candidate, calls_b, clock))
        references.append(_timed(reference, calls_a, clock))
    return references, candidates


def paired_ratio(
    references: Sequence[Floats], candidates: Sequence[Floats], *, seed: int = 0
) -> tuple[float, float, float]:
    """Speed-up of the candidate and its 95 % interval, from blocks that took turns.

    Args:
        references: R + 1 arrays of times, as `time_in_turn` returns them.
        candidates: R arrays of times.
        seed: Of the 2000 resamples of the rounds.

    Returns:
        ``(ratio, low, high)``, reference over candidate: the median over rounds and the percentiles
        of its bootstrap; the ends are NaN with one round.
    """
    around = np.array([np.median(block) for block in references])
    between = np.array([np.median(block) for block in candidates])
    ratios = (around[:-1] + around[1:]) / 2 / between
    if len(ratios) < 2:
        return float(ratios[0]), float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(len(ratios), size=(2000, len(ratios)))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def _compare(
    path: Path, reference: list[Floats], candidate: list[Floats], *, threads: int, batch: int
) -> LatencyComparison:
    ratio, low, high = paired_ratio(reference, candidate)
    return LatencyComparison(
        path=path,
        stats=summarise(candidate, threads, batch),
        reference=summarise(reference, threads, batch),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        rounds=len(candidate),
    )


def summarise(blocks: Sequence[Floats], threads: int, batch: int) -> LatencyStats:
    """Percentiles (linear, as `numpy.percentile`) and mean of all times in ms, rounds pooled."""
    times = np.concatenate(blocks)
    p50, p95, p99 = (float(p) for p in np.percentile(times, [50, 95, 99]))
    mean = float(times.mean())
    return LatencyStats(p50, p95, p99, mean, len(times), threads, batch)


def _warm(run: Run, calls: int, clock: Callable[[], float]) -> float:
    """Typical time of a call in s: the fastest of the warm-up, as the first ones allocate."""
    return max(float(_timed(run, calls, clock).min()) / 1000, 1e-9)


def _timed(run: Run, calls: int, clock: Callable[[], float]) -> Floats:
    times = np.empty(calls)
    for i in range(calls):
        start = clock()
        run()
        times[i] = clock() - start
    return times * 1000


def _runner(path: Path, inputs: NDArray[Any], threads: int) -> Run:
    """A call of the file on ``inputs`` that has worked once."""
    session = _session(path, threads)
    if len(session.get_inputs()) != 1:
        names = ", ".join(i.name for i in session.get_inputs())
        raise DataError(f"{path} must have one input to be timed, got {names or 'none'}")
    wanted = session.get_inputs()[0]
    feed = {wanted.name: np.ascontiguousarray(inputs)}
    try:
        session.run(None, feed)
    except Exception as error:  # ONNX Runtime's own classes have no common public base
        raise DataError(
            f"{path} expects {wanted.type} {wanted.shape} as {wanted.name!r} and could not run on "
            f"{inputs.dtype} {list(inputs.shape)}: {_first_line(error)}"
        ) from error
    return lambda: session.run(None, feed)


def _session(path: Path, threads: int) -> InferenceSession:
    import onnxruntime

    if not path.is_file():
        raise DataError(f"cannot time {path}: there is no such file")
    options, providers = session_options(threads), ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # as above
        raise DataError(f"cannot load {path}: {load_problem(error)}") from error


def load_problem(error: Exception) -> str:
    """Why ONNX Runtime did not load a file, for people, without its name."""
    if "INVALID_PROTOBUF" in str(error):
        return "it is no ONNX file, or a damaged one"
    return f"ONNX Runtime says {_first_line(error)}"


def session_options(threads: int) -> SessionOptions:
    """``threads`` within an operator, operators one by one, no spinning between calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check(inputs: NDArray[Any], *, threads: int, rounds: int, warmup: int, seconds: float) -> None:
    if inputs.ndim == 0 or inputs.size == 0:
        raise ShapeError(f"inputs must hold at least one image, got shape {inputs.shape}")
    if threads < 0:
        raise UsageError(f"threads must be 0 (all cores) or more, got {threads}")
    if rounds < 1 or warmup < 1:
        raise UsageError(f"rounds and warmup must be at least 1, got {rounds} and {warmup}")
    if not seconds > 0:
        raise UsageError(f"seconds_per_candidate must be above 0, got {seconds}")

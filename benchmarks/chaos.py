"""Kills, failing disks and double starts against real sweeps, by the hundred, from a seed.

    cc -shared -fPIC -O2 -o faults.so benchmarks/faults.c -ldl
    OMP_NUM_THREADS=1 LD_PRELOAD=./faults.so python benchmarks/chaos.py kills --count 100 --out DIR
    OMP_NUM_THREADS=1 LD_PRELOAD=./faults.so python benchmarks/chaos.py faults --count 150 --out DIR
    python benchmarks/chaos.py doubles --count 20 --out DIR

A small network of random weights on generated photos; Linux. After every blow the folder is looked
through (no half file among those that count), and once a run is let to its end, every file that it
found must be that of a run that nobody touched. Every sweep runs in a copy of one process that has
loaded everything, so that a start costs milliseconds. With ``--replay`` a candidate is not computed
again but written again, file by file and durably, from the untouched run: the moments in which
something can break are the same ones, and come sooner.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import finicky.sweep.workbench
from finicky.data.surfaces import write_surfaces
from finicky.errors import FinickyError
from finicky.files import read_sealed, sha256_file, write_bytes
from finicky.project import Project
from finicky.sweep import Execution, RunFolder, SweepSettings, run_sweep
from finicky.sweep.identity import Candidate

SETTINGS = SweepSettings(
    backbone="alexnet",
    weights="random",
    keep_ratios=(0.1, 0.3),
    repair="none",
    tile=64,
    tiles_per_photo=2,
    head_seeds=1,
    latency_seconds=0,
    maps=False,
)
NAMES = ("keep-1", "keep-0.3", "keep-0.1")
RESULTS = ("results.csv", "candidates/*/*", "selected/*", "importance.npz", "tiles/**/*.png")


class Broken(Exception):
    """A promise was not kept."""


def run(project: Project, out: Path, workers: int = 1) -> int:
    """A sweep in this process: 0, or 1 after a line on stderr."""
    try:
        run_sweep(project, out, SETTINGS, execution=Execution(workers=workers))
    except FinickyError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def fork(work: Any, log: Path) -> int:
    """Do ``work`` in a copy of this process, the leader of a group; returns its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 70
    try:
        code = work()
    except BaseException as error:  # a defect: seen by its exit code and its words
        print(f"unexpected {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(code)


def ended(child: int) -> int:
    """Exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def found(out: Path) -> dict[str, str]:
    """Hashes of all results."""
    files = [p for pattern in RESULTS for p in out.glob(pattern)]
    return {p.relative_to(out).as_posix(): sha256_file(p) for p in files if p.is_file()}


def stamps(out: Path) -> dict[str, int]:
    """When each candidate was finished."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("candidates/*/metrics.json")}


def look(out: Path) -> None:
    """What counts as finished is whole."""
    for name in NAMES:
        if out.is_dir() and RunFolder(out).changed_in(name):
            raise Broken(f"{name} counts as finished and is not whole")


def finish(project: Project, out: Path, expected: dict[str, str], before: dict[str, int]) -> None:
    """Let a run go to its end, and compare."""
    child = fork(lambda: run(project, out), out.parent / "log")
    code = ended(child)
    if code != 0:
        raise Broken(f"resume ended with {code}: {(out.parent / 'log').read_text()[-500:]}")
    check_kept(out, before)
    if found(out) != expected:
        wrong = {k for k in expected if found(out).get(k) != expected[k]} | set(found(out))
        raise Broken(f"results differ: {sorted(wrong - set(expected))[:5]}")
    left = [p.name for p in out.rglob("*") if p.name.endswith(".tmp") or p.name == ".scratch"]
    if left:
        raise Broken(f"left behind: {left}")


def check_kept(out: Path, before: dict[str, int]) -> None:
    """No candidate that was finished was lost or made again."""
    now = stamps(out)
    redone = [name for name, stamp in before.items() if now.get(name) != stamp]
    if redone:
        raise Broken(f"made again: {redone}")


def kills(args: argparse.Namespace, project: Project, expected: dict[str, str]) -> None:
    """Runs that are killed again and again until one gets through; three kinds of moment."""
    draw = random.Random(args.seed)
    faults = ctypes.CDLL(None)
    out, log = args.out / "run", args.out / "log"
    start = time.monotonic()
    child = fork(lambda: run(project, out), log)
    assert ended(child) == 0
    seconds = time.monotonic() - start
    shutil.rmtree(out)
    done: Counter[str] = Counter()
    finished_when_killed: Counter[int] = Counter()
    writes = writes_of(project, args.out, faults)
    while done.total() < args.count:
        before: dict[str, int] = {}
        chain = draw.randint(1, 4)  # blows before the run is let through
        for _ in range(chain):
            odds = (6, 3, 0 if args.replay else 1)  # workers are processes that compute
            kind = draw.choices(("at a time", "at a write", "with workers"), odds)[0]
            if kind == "at a write":
                at = draw.randrange(writes)
                child = fork(lambda at=at: armed(faults, out, at, -1, True, project), log)
                code = ended(child)
            else:
                workers = 2 if kind == "with workers" else 1
                child = fork(lambda workers=workers: run(project, out, workers), log)
                time.sleep(draw.uniform(0, seconds * (0.8 if workers == 1 else 3)))
                try:
                    os.killpg(child, signal.SIGKILL)
                except ProcessLookupError:  # before it led a group
                    os.kill(child, signal.SIGKILL)
                code = ended(child)
            if code == -signal.SIGKILL:
                done[kind] += 1
            elif code != 0:
                raise Broken(f"ended with {code}: {log.read_text()[-500:]}")
            look(out)
            check_kept(out, before)
            before = stamps(out)
            finished_when_killed[len(before)] += 1
        finish(project, out, expected, before)
        shutil.rmtree(out)
        print(f"kills so far: {done.total()}", file=sys.stderr, flush=True)
    report("kills", done, finished=dict(finished_when_killed), run_seconds=round(seconds, 1))


def writes_of(project: Project, place: Path, faults: ctypes.CDLL) -> int:
    """How many calls of an untouched run change files."""
    out, answer = place / "counted", place / "count"

    def work() -> int:
        faults.arm(str(out).encode(), -1, 0, 0)
        code = run(project, out)
        number = faults.count()
        faults.arm(b"", -1, 0, 0)
        answer.write_text(str(number))
        return code

    if ended(fork(work, place / "log")) != 0:
        raise Broken((place / "log").read_text())
    shutil.rmtree(out)
    return int(answer.read_text())


def armed(
    faults: ctypes.CDLL, out: Path, at: int, code: int, lasting: bool, project: Project
) -> int:
    faults.arm(str(out).encode(), at, code, int(lasting))
    return run(project, out)


def faults(args: argparse.Namespace, project: Project, expected: dict[str, str]) -> None:
    """Each run meets one fault, at a write spread evenly over all of them, and is resumed."""
    draw = random.Random(args.seed)
    library = ctypes.CDLL(None)
    out, log = args.out / "run", args.out / "log"
    writes = writes_of(project, args.out, library)
    done: Counter[str] = Counter()
    told: Counter[str] = Counter()
    for number in range(args.count):
        at = min(writes - 1, int((number + draw.random()) * writes / args.count))
        code, lasting = draw.choice(
            [(errno.ENOSPC, True), (errno.EIO, False), (errno.EDQUOT, True), (errno.EROFS, True)]
        )
        child = fork(
            lambda at=at, code=code, lasting=lasting: armed(
                library, out, at, code, lasting, project
            ),
            log,
        )
        ended_with, words = ended(child), log.read_text()
        lines = [line for line in words.splitlines() if line.startswith("error: ")]
        if ended_with == 1:
            if len(lines) != 1 or os.strerror(code) not in lines[0]:
                raise Broken(f"write {at}, {errno.errorcode[code]}: {words[-500:]}")
            told[re.sub(r"/\S+", "FILE", lines[0])[:60]] += 1
        elif ended_with != 0:
            raise Broken(f"write {at}, {errno.errorcode[code]}: exit {ended_with}: {words[-900:]}")
        elif lasting and found(out) != expected:
            raise Broken(f"write {at}, {errno.errorcode[code]}: said done, and is not")
        done[f"{errno.errorcode[code]}: {'stopped' if ended_with else 'went on'}"] += 1
        look(out)
        finish(project, out, expected, stamps(out))
        shutil.rmtree(out)
        print(f"faults so far: {done.total()}", file=sys.stderr, flush=True)
    report("faults", done, writes=writes, lines=dict(told))


def doubles(args: argparse.Namespace, project: Project, expected: dict[str, str]) -> None:
    """A second start, by the command line, while the first is at work."""
    out, log = args.out / "run", args.out / "log"
    command = [sys.executable, "-c", "from finicky.cli import main; main()", "run"]
    command += [str(project.root), "--out", str(out), "--backbone", "alexnet"]
    slowest, done = 0.0, 0
    while done < args.count:
        child = fork(lambda: run(project, out), log)
        while not (out / ".owner.json").is_file():
            time.sleep(0.01)
        for _ in range(4):
            start = time.monotonic()
            second = subprocess.run(command, capture_output=True, text=True, check=False)
            seconds = time.monotonic() - start
            over = os.waitpid(child, os.WNOHANG)[0] != 0
            if over:
                break
            if second.returncode != 1 or f"in use by process {child} " not in second.stderr:
                raise Broken(f"exit {second.returncode}: {second.stderr[-500:]}")
            slowest, done = max(slowest, seconds), done + 1
        if not over:
            ended(child)
        finish(project, out, expected, stamps(out))
        shutil.rmtree(out)
    report("double starts", Counter(refused=done), slowest_s=round(slowest, 2))


def replay(untouched: Path) -> Any:
    """What writes a candidate's files again instead of making them."""

    def write(candidate: Candidate, *rest: Any, **_: Any) -> dict[str, Any]:
        here: Path = rest[4]
        for path in sorted((untouched / "candidates" / candidate.name).iterdir()):
            if path.is_file() and path.name != "metrics.json":
                write_bytes(here / path.name, path.read_bytes())
        metrics = read_sealed(untouched / "candidates" / candidate.name / "metrics.json")
        del metrics["files"]
        return metrics

    return write


def report(title: str, done: Counter[str], **more: Any) -> None:
    print(json.dumps({title: dict(done), "total": done.total(), **more, "broken": 0}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("kills", "faults", "doubles"))
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out = args.out.resolve() / args.what
    shutil.rmtree(args.out, ignore_errors=True)
    write_surfaces(args.out / "project", 10, seed=3, width=192, height=160)
    project = Project.open(args.out / "project")
    run(project, args.out / "untouched")  # loads everything, once
    expected = found(args.out / "untouched")
    if args.replay:
        finicky.sweep.workbench.evaluate_candidate = replay(args.out / "untouched")
    start = time.monotonic()
    {"kills": kills, "faults": faults, "doubles": doubles}[args.what](args, project, expected)
    print(f"{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

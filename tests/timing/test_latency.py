import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from finicky.errors import DataError, ShapeError, UsageError
from finicky.timing import latency
from finicky.timing.latency import (
    TurnPlan,
    available_cores,
    measure_in_turn,
    paired_ratio,
    summarise,
    time_in_turn,
)

TILES = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)


def write_model(path: Path, *, layers: int, width: int = 96) -> Path:
    """uint8 NHWC tiles -> mean over pixels -> ``layers`` square matrix products."""
    rng = np.random.default_rng(0)
    sizes = [3] + [width] * layers
    weights = [rng.normal(0, 0.1, pair).astype(np.float32) for pair in pairwise(sizes)]
    nodes = [helper.make_node("Cast", ["tiles"], ["v0"], to=TensorProto.FLOAT)]
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [f"v{i}", f"w{i}"], [f"v{i + 1}"]))
    graph = helper.make_graph(
        nodes,
        "stack",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 32, 32, 3])],
        [helper.make_tensor_value_info(f"v{layers}", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modèles à mesurer")
    return (
        write_model(folder / "plein été.onnx", layers=20),
        write_model(folder / "élagué.onnx", layers=2),
    )


class FakeMachine:
    """A clock that only runs while something works, at a speed that may change with time."""

    def __init__(self, slowness=lambda _now: 1.0):
        self.now = 0.0
        self.slowness = slowness
        self.calls = []

    def clock(self):
        return self.now

    def work(self, name, seconds):
        def run():
            self.calls.append(name)
            self.now += seconds * self.slowness(self.now)

        return run


def turns(machine, reference_s, candidate_s, *, rounds=9, warmup=2, budget=1.9):
    plan = TurnPlan(rounds=rounds, warmup=warmup, seconds=budget)
    runs = machine.work("A", reference_s), machine.work("B", candidate_s)
    return time_in_turn(*runs, plan, machine.clock)


def test_a_network_with_a_tenth_of_the_work_is_faster(models):
    full, pruned = models
    report = measure_in_turn(full, [pruned, full], inputs=TILES, seconds_per_candidate=0.4)
    fast, same = report.candidates
    assert fast.path == pruned
    assert 2 < fast.ratio_low <= fast.ratio <= fast.ratio_high
    assert fast.stats.p50_ms < fast.reference.p50_ms
    assert 0.6 < same.ratio < 1.7
    assert report.reference.runs == fast.reference.runs + same.reference.runs


def test_swapping_reference_and_candidate_turns_the_ratio_round(models):
    full, pruned = models
    report = measure_in_turn(pruned, [full], inputs=TILES, seconds_per_candidate=0.3)
    assert report.candidates[0].ratio_high < 0.5


def test_stats_record_their_conditions(models):
    batch = np.repeat(TILES, 3, axis=0)
    report = measure_in_turn(
        models[0], [models[1]], inputs=batch, threads=0, rounds=3, seconds_per_candidate=0.1
    )
    stats = report.candidates[0].stats
    assert (stats.threads, stats.batch) == (available_cores(), 3)
    assert report.candidates[0].rounds == 3
    assert 0 < stats.p50_ms <= stats.p95_ms


def test_reference_alone_is_measured_without_candidates(models):
    report = measure_in_turn(models[0], [], inputs=TILES, seconds_per_candidate=0.05)
    assert report.candidates == ()
    assert report.reference.runs >= 5


def test_progress_counts_candidates(models):
    told = []
    measure_in_turn(
        models[0],
        [models[1]] * 2,
        inputs=TILES,
        seconds_per_candidate=0.02,
        progress=lambda *news: told.append(news),
    )
    assert told == [("latency", 0, 2), ("latency", 1, 2), ("latency", 2, 2)]


def test_times_are_those_of_the_clock():
    reference, candidate = turns(FakeMachine(), 0.045, 0.0045)
    np.testing.assert_allclose(np.concatenate(reference), 45.0)
    np.testing.assert_allclose(np.concatenate(candidate), 4.5)
    # 1.9 s in 10 + 9 blocks: 0.1 s each.
    assert [len(block) for block in reference] == [2] * 10
    assert [len(block) for block in candidate] == [22] * 9


def test_networks_take_turns():
    machine = FakeMachine()
    turns(machine, 1.0, 1.0, rounds=3, warmup=1, budget=7)
    assert "".join(machine.calls) == "AB" + "ABABABA"


def test_a_short_budget_means_fewer_rounds_but_never_below_five():
    assert len(turns(FakeMachine(), 0.1, 0.1, rounds=50, budget=1.55)[1]) == 7
    assert len(turns(FakeMachine(), 2.0, 0.1, rounds=50, budget=1.5)[1]) == 5
    assert len(turns(FakeMachine(), 2.0, 0.1, rounds=2, budget=1.5)[1]) == 2


def test_budget_is_kept_where_the_networks_are_fast_enough():
    machine = FakeMachine()
    turns(machine, 0.03, 0.002, rounds=15, warmup=3, budget=1.5)
    assert 1.0 < machine.now - 3 * 0.032 < 1.51


def one_after_the_other(slowness):
    """The ratio that a table of times gives: first the reference, then the candidate."""
    machine = FakeMachine(slowness)
    medians = []
    for seconds in (0.02, 0.002):
        run = machine.work("A", seconds)
        blocks = time_in_turn(run, run, TurnPlan(rounds=15, warmup=2, seconds=0.9), machine.clock)
        medians.append(np.median(np.concatenate(blocks[0])))
    return medians[0] / medians[1]


@pytest.mark.parametrize(
    "slowness",
    [
        lambda now: 1 + now,  # ever slower: twice as slow after a second
        lambda now: 3.0 if now > 1.0 else 1.0,  # another program starts halfway
    ],
)
def test_ratio_holds_while_the_machine_drifts(slowness):
    ratio, low, high = paired_ratio(*turns(FakeMachine(slowness), 0.02, 0.002, rounds=15))
    assert ratio == pytest.approx(10, rel=0.03)
    assert low <= ratio <= high
    assert not 8 < one_after_the_other(slowness) < 12


def test_ratio_is_the_median_of_the_rounds_and_its_interval_covers_their_spread():
    # Reference blocks of 8, 8, 12, 12 around candidate blocks of 1: ratios 8, 10, 12.
    reference = [np.array([v, v, v * 9]) for v in (8.0, 8.0, 12.0, 12.0)]
    candidate = [np.array([1.0, 1.0, 7.0])] * 3
    assert paired_ratio(reference, candidate) == (10.0, 8.0, 12.0)


def test_one_round_gives_no_interval():
    ratio, low, high = paired_ratio([np.array([6.0]), np.array([8.0])], [np.array([2.0])])
    assert ratio == 3.5
    assert math.isnan(low) and math.isnan(high)


def test_stats_are_percentiles_of_all_rounds():
    stats = summarise([np.arange(0.0, 51), np.arange(51.0, 101)], threads=1, batch=1)
    assert (stats.p50_ms, stats.p95_ms, stats.mean_ms, stats.runs) == (50, 95, 50, 101)


def test_idle_session_does_not_spin():
    options = latency.session_options(threads=2)
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"
    assert options.intra_op_num_threads == 2
    assert options.inter_op_num_threads == 1


def test_missing_file_is_named(models, tmp_path):
    with pytest.raises(DataError, match=r"gone\.onnx: there is no such file"):
        measure_in_turn(models[0], [tmp_path / "gone.onnx"], inputs=TILES)


def test_damaged_file_is_named(tmp_path):
    path = tmp_path / "half.onnx"
    path.write_bytes(b"\x08\x07not a model")
    with pytest.raises(DataError, match=r"cannot load .*half\.onnx") as raised:
        measure_in_turn(path, [], inputs=TILES)
    assert "\n" not in str(raised.value)


def test_wrong_inputs_say_what_was_expected_and_received(models):
    with pytest.raises(DataError, match=r"tensor\(uint8\).*'tiles'.*float32 \[1, 32, 32, 3\]"):
        measure_in_turn(models[0], [], inputs=TILES.astype(np.float32))


def test_a_file_with_two_inputs_is_refused(tmp_path):
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("a", "b", "c")]
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])], "g", infos[:2], infos[2:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(DataError, match="one input to be timed, got a, b"):
        measure_in_turn(tmp_path / "two.onnx", [], inputs=TILES)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"inputs": TILES[:0]}, ShapeError, r"at least one image, got shape \(0, 32, 32, 3\)"),
        ({"threads": -1}, UsageError, "got -1"),
        ({"rounds": 0}, UsageError, "got 0 and 3"),
        ({"warmup": 0}, UsageError, "got 15 and 0"),
        ({"seconds_per_candidate": 0.0}, UsageError, "above 0, got 0"),
    ],
)
def test_bad_arguments_are_one_clear_error(models, change, error, text):
    with pytest.raises(error, match=text):
        measure_in_turn(models[0], [models[1]], **({"inputs": TILES} | change))

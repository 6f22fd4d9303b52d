import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex

from finicky.report import charts
from finicky.report.chart_parts import ORANGE, as_svg, round_steps
from finicky.report.comparison import compare
from finicky.report.facts import read_run

UNITS = re.compile(r"%|MB|ms|points|no unit|^metric$")


@pytest.fixture(scope="module")
def facts(usual_run):
    return read_run(usual_run)


@pytest.fixture(scope="module")
def drawn(facts):
    return {
        "difference": charts.difference_chart(compare(facts, resamples=50)),
        "quality": charts.quality_chart(facts),
        "cost": charts.cost_chart(facts),
        "keep": charts.keep_chart(facts),
        "score": charts.score_chart(facts),
        "pareto": charts.pareto_chart(facts),
    }


def untimed(facts):
    rows = tuple(
        {k: float("nan") if k.startswith("latency") else v for k, v in row.items()}
        for row in facts.rows
    )
    full, chosen = (
        replace(n, row=next(r for r in rows if r["candidate"] == n.row["candidate"]))
        for n in (facts.full, facts.chosen)
    )
    return replace(facts, rows=rows, full=full, chosen=chosen)


def diamonds(figure):
    """Coordinates of the chosen network's marks, one list a panel."""
    return [
        [
            (line.get_xdata()[0], line.get_ydata()[0])
            for line in axes.lines
            if line.get_marker() == "D" and to_hex(line.get_color()) == ORANGE.lower()
        ]
        for axes in figure.axes
    ]


def test_every_axis_is_named_with_its_unit(drawn, facts):
    bare = untimed(facts)
    more = [charts.cost_chart(bare), charts.pareto_chart(bare)]
    for figure in [*drawn.values(), *more]:
        for axes in figure.axes:
            assert UNITS.search(axes.get_xlabel()), axes.get_xlabel()
            assert UNITS.search(axes.get_ylabel()), axes.get_ylabel()


def test_chosen_is_marked_where_the_table_says(drawn, facts):
    row = facts.chosen.row
    share = row["params"] / facts.full.row["params"]
    assert diamonds(drawn["quality"]) == [
        [pytest.approx((share, 100 * row[metric]))]
        for metric in ("balanced_accuracy", "f1", "accuracy")
    ]
    assert diamonds(drawn["cost"]) == [
        [pytest.approx((share, row["size_bytes"] / 1e6))],
        [pytest.approx((share, row["latency_p50_ms"]))],
    ]
    assert diamonds(drawn["score"]) == [[pytest.approx((row["keep_ratio"], row["score"]))]]
    assert diamonds(drawn["keep"]) == [[pytest.approx((row["keep_ratio"], 100 * share))]]
    assert diamonds(drawn["pareto"]) == [
        [pytest.approx((1 / row["latency_ratio"], 100 * row["val_f1"]))]
    ]


def test_intervals_are_drawn_from_low_to_high(drawn, facts):
    (bars,) = drawn["quality"].axes[0].collections
    ends = [(segment[0][1], segment[1][1]) for segment in bars.get_segments()]
    expected = [
        (100 * row["balanced_accuracy_low"], 100 * row["balanced_accuracy_high"])
        for row in facts.rows
    ]
    assert ends == [pytest.approx(pair) for pair in expected]


def test_full_network_is_a_level_line(drawn, facts):
    levels = [line.get_ydata() for line in drawn["quality"].axes[1].lines]
    assert any(
        len(y) == 2 and np.allclose(y, 100 * facts.full.number("f1")) for y in map(np.array, levels)
    )


def test_ticks_of_log_axes_are_plain_numbers(drawn):
    for name in ("quality", "cost", "keep", "pareto"):
        drawn[name].draw_without_rendering()
        for axes in drawn[name].axes:
            texts = [t.get_text() for t in axes.get_xticklabels()]
            assert len(texts) >= 2
            assert all(re.fullmatch(r"[0-9.]+", text) for text in texts), texts


def test_names_of_points_do_not_overlap(drawn):
    figure = drawn["pareto"]
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    marks = [axes.transData.transform(point) for line in axes.lines for point in line.get_xydata()]
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_chosen_is_always_named(drawn):
    assert "keep 10\u00a0%" in [text.get_text() for text in drawn["pareto"].axes[0].texts]
    assert [text.get_text() for text in drawn["score"].axes[0].texts] == ["keep 10\u00a0%"]


def test_chosen_is_named_on_a_peak_too(facts):
    """As measured once: neighbours on both sides, just below the chosen one."""
    ratios = (1, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08, 0.05, 0.02)
    scores = (1, 1.146, 1.171, 1.209, 1.214, 1.194, 1.175, 1.117, 1.131, 1.014, 0.753)
    row = facts.chosen.row
    rows = tuple(
        row | {"candidate": str(r), "keep_ratio": r, "score": s}
        for r, s in zip(ratios, scores, strict=True)
    )
    chosen = replace(facts.chosen, row=rows[4])
    figure = charts.score_chart(replace(facts, rows=rows, chosen=chosen))
    assert [text.get_text() for text in figure.axes[0].texts] == ["keep 25\u00a0%"]


def test_untimed_run_is_drawn_against_parameters(facts):
    bare = untimed(facts)
    assert "parameters" in charts.pareto_chart(bare).axes[0].get_xlabel()
    words = [text.get_text() for text in charts.cost_chart(bare).axes[1].texts]
    assert words == ["times were not measured in this run"]


def test_missing_interval_leaves_the_bar_out(facts):
    rows = tuple(row | {"f1_low": float("nan"), "f1_high": float("nan")} for row in facts.rows)
    figure = charts.quality_chart(replace(facts, rows=rows))
    as_svg(figure)
    assert not any(len(segment) for segment in figure.axes[1].collections[0].get_segments())
    assert any(len(segment) for segment in figure.axes[0].collections[0].get_segments())


def test_difference_is_filled_only_where_it_is_clear(facts):
    comparison = compare(facts, resamples=200)
    axes = charts.difference_chart(comparison).axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    filled = [to_hex(dot.get_markerfacecolor()) != "#ffffff" for dot in dots]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names[0] == "balanced accuracy" and len(dots) == 6
    clear = [comparison.verdict(m) in ("better", "worse") for m in charts.METRIC_NAMES]
    assert filled == clear


def test_svg_is_well_formed_and_the_same_each_time(facts):
    first, second = (as_svg(charts.pareto_chart(facts)) for _ in range(2))
    assert first == second
    assert ElementTree.fromstring(first).tag.endswith("svg")


def test_round_steps_by_hand():
    assert round_steps(0.4, 25) == [0.5, 1, 2, 5, 10, 20]
    assert round_steps(0.0003, 1.35) == [0.001, 0.01, 0.1, 1]
    assert round_steps(0.74, 1.35) == [1]

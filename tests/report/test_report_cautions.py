from dataclasses import replace

import pytest

from finicky.report.cautions import cautions
from finicky.report.comparison import compare
from finicky.report.facts import read_run
from finicky.report.wording import SPACE
from finicky.sweep import DecisionSettings

PUBLISHED = DecisionSettings("published")
MANY = (("train", 12), ("validation", 12), ("test", 12))


def told(root):
    facts = read_run(root)
    return " ".join(cautions(facts, compare(facts, resamples=300))).replace(SPACE, " ")


def test_a_sound_clear_run_warns_of_nothing(make_run):
    skill = {1.0: 4.0, 0.3: 3.8, 0.1: 2.4, 0.05: 0.2}
    root = make_run(skill=skill, photos=MANY, decision=PUBLISHED)
    facts = read_run(root)
    assert facts.chosen.number("keep_ratio") == 0.1
    found = cautions(facts, compare(facts, resamples=300))
    assert all("F1 on validation" in text for text in found)  # noise may make it look better


def test_few_photographs_are_told_for_each_split(make_run):
    text = told(make_run(photos=(("train", 4), ("validation", 3), ("test", 5))))
    assert "Only 5 photographs in test" in text
    assert "Only 3 photographs in validation" in text


def test_ten_photographs_are_not_few(make_run):
    text = told(make_run(photos=(("train", 4), ("validation", 10), ("test", 10))))
    assert "photographs in" not in text


def test_a_missing_interval_is_told_with_its_reason(make_run):
    text = told(make_run(photos=(("train", 4), ("validation", 4), ("test", 1))))
    assert "No interval can be given for the difference in balanced accuracy" in text
    assert "needs at least 2 groups" in text


def test_unbalanced_classes_are_told_with_the_share(make_run):
    text = told(make_run(target_share=0.1, tiles_per_photo=20))
    assert "90.0 % of the test tiles are without crack" in text


def test_the_smallest_candidate_asks_for_smaller_ones(make_run):
    text = told(make_run(skill={1.0: 2.5, 0.2: 2.5, 0.1: 2.5}, photos=MANY, decision=PUBLISHED))
    assert "smallest that was tried (keep 10 %)" in text
    assert "below 0.1" in text


def test_the_largest_candidate_asks_for_larger_ones(make_run):
    skill = {1.0: 4.0, 0.3: 4.0, 0.1: 0.2, 0.05: 0.1}
    text = told(make_run(skill=skill, photos=MANY))
    assert "largest that was tried below the full one (keep 30 %)" in text


def test_a_full_network_that_guesses_is_told_first(make_run):
    root = make_run(skill={1.0: 0.0, 0.1: 0.0}, photos=MANY, decision=PUBLISHED)
    facts = read_run(root)
    first = cautions(facts, compare(facts, resamples=300))[0]
    assert "cannot be told from guessing" in first


def test_no_difference_is_not_called_equality(make_run):
    text = told(make_run(skill={1.0: 2.5, 0.3: 2.5, 0.1: 2.5, 0.05: 0.1}, photos=MANY))
    assert "no proof of equality" in text
    assert "a loss of up to" in text


def test_one_head_and_no_times_are_told(make_run):
    text = told(make_run(head_seeds=1, timed=False))
    assert "Only one head was trained" in text
    assert "Times were not measured" in text


def test_validation_above_the_test_interval_is_called_optimism(usual_run):
    facts = read_run(usual_run)
    chosen = replace(facts.chosen, row=facts.chosen.row | {"val_f1": 0.999})
    found = cautions(replace(facts, chosen=chosen), compare(facts, resamples=100))
    assert any("F1 on validation" in text and "99.9" in text for text in found)


@pytest.mark.parametrize("metric", ["precision", "recall"])
def test_an_interval_without_width_is_explained(usual_run, metric):
    facts = read_run(usual_run)
    row = facts.chosen.row | {f"{metric}{end}": 1.0 for end in ("", "_low", "_high")}
    chosen = replace(facts.chosen, row=row)
    found = cautions(replace(facts, chosen=chosen), compare(facts, resamples=100))
    assert any(f"interval of {metric} has no width" in text for text in found)

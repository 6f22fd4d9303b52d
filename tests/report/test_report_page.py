import base64
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from finicky.errors import DataError, UsageError
from finicky.files import read_json, write_json
from finicky.report import write_report
from finicky.report.comparison import compare
from finicky.report.details import Rejection, rejections
from finicky.report.facts import read_run
from finicky.report.page import headline
from finicky.report.wording import SPACE
from finicky.selection import Constraints
from finicky.sweep import DecisionSettings, read_table

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags in balance, ids, attributes and the visible text of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th", "dt", "dd", "li"):
            self.words.append(" ")
        for name, value in attrs:
            self.attributes.append((tag, name, value))
            if name == "id":
                self.ids.append(value)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.words).replace(SPACE, " "))


def read_page(root):
    return Page((root / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(usual_run):
    assert write_report(usual_run) == usual_run / "report.html"
    return read_page(usual_run)


def row_of(root, **wanted):
    return next(
        row
        for row in read_table(root / "results.csv")
        if all(row[column] == value for column, value in wanted.items())
    )


def test_page_is_balanced_html_with_unique_ids(usual_run, page):
    text = (usual_run / "report.html").read_text(encoding="utf-8")
    assert text.lstrip().startswith("<!DOCTYPE html>")
    assert len(set(page.ids)) == len(page.ids)
    anchors = [v[1:] for _, name, v in page.attributes if name == "href"]
    assert anchors and set(anchors) <= set(page.ids)
    assert all(dict_alt for tag, name, dict_alt in page.attributes if (tag, name) == ("img", "alt"))


def test_headline_tells_the_tables_numbers(usual_run, page):
    chosen, full = row_of(usual_run, selected=1), row_of(usual_run, keep_ratio=1)
    for expected in (
        f"keeps {100 * chosen['keep_ratio']:g} % of the filters",
        f"has {100 * chosen['params'] / full['params']:.1f} % of the parameters",
        f"its file is {full['size_bytes'] / chosen['size_bytes']:.0f}× smaller",
        f"it is {chosen['latency_ratio']:.1f}× faster (one thread)",
        f"balanced accuracy is {100 * chosen['balanced_accuracy']:.1f} % against "
        f"{100 * full['balanced_accuracy']:.1f} % for the full network",
    ):
        assert expected in page.text


def test_headline_says_that_the_map_is_not_in_the_time(usual_run):
    facts = read_run(usual_run)
    facts = replace(facts, choice={**facts.choice, "map": {"map_px": 4.0}})
    assert "(one thread; without the map, which finicky export times)" in headline(
        facts, compare(facts)
    )


def test_every_candidate_has_a_row(usual_run, page):
    for row in read_table(usual_run / "results.csv"):
        low, high = (row[f"balanced_accuracy_{end}"] for end in ("low", "high"))
        cells = [
            f"{100 * row['keep_ratio']:g} %",
            f"{100 * row['balanced_accuracy']:.1f} %",
            f"{100 * low:.1f} to {100 * high:.1f}",
            f"{100 * row['val_f1']:.1f} %",
            f"{row['score']:.3f}",
        ]
        pattern = ".*?".join(map(re.escape, cells))
        assert re.search(pattern, page.text), cells


def test_confusion_is_that_of_the_deployed_head(usual_run, page):
    name = row_of(usual_run, selected=1)["candidate"]
    counts = read_json(usual_run / "candidates" / name / "metrics.json")["test_confusion"]
    positives, negatives = counts["tp"] + counts["fn"], counts["tn"] + counts["fp"]
    assert (
        f"Of {positives} tiles with crack it found {counts['tp']} and missed {counts['fn']} "
        f"({100 * counts['fn'] / positives:.1f} %"
    ) in page.text
    assert f"Of {negatives} tiles without, it raised a false alarm on {counts['fp']}" in page.text


def test_page_asks_for_nothing_from_a_network(usual_run, page):
    sources = [v for _, name, v in page.attributes if name in ("src", "href", "srcset", "data")]
    assert len([s for s in sources if s.startswith("data:image/")]) == 6
    assert all(s.startswith(("data:image/", "#")) for s in sources)
    text = (usual_run / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|<script", text)
    for source in sources:
        if source.startswith("data:image/svg+xml;base64,"):
            svg = base64.b64decode(source.split(",", 1)[1]).decode("utf-8")
            assert not re.search(r'href="(?!#)', svg)


def test_same_folder_same_bytes(usual_run):
    write_report(usual_run)
    first = (usual_run / "report.html").read_bytes()
    write_report(usual_run)
    assert (usual_run / "report.html").read_bytes() == first


def test_conditions_are_told(page):
    for expected in (
        "vgg16",
        "criterion “coverage”",
        "each layer was fitted to the full network's responses",
        "over 3 heads",
        "bootstrap over whole photographs",
        "Imaginary CPU, 4 logical cores",
        "python 3.11.9",
        "with all 4 cores",
        "is reported, once, and decides nothing",
        "1 · F1/F1₀ + 0.1 · (1 − P/P₀) + 0.3 · (1 − t/t₀)",
        "compared with PyTorch on 64 tiles",
    ):
        assert expected in page.text


def test_split_table_counts_tiles_by_class(page):
    # 14 test photos of 12 tiles, half of them with a crack.
    assert re.search(r"test is reported, once, and decides nothing 14 14 84 84", page.text)


def test_hostile_names_are_text(make_run):
    hostile = "<img src=x onerror=alert(1)>&\"'"
    root = make_run(
        project=hostile,
        prefix=hostile,
        target="<b>crack</b>",
        rejected=((f"photos/{hostile}.jpg", "<script>alert(2)</script>"),),
    )
    write_report(root)
    text = (root / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in text and "<script" not in text and "<b>crack" not in text
    found = read_page(root)
    assert hostile in found.text
    assert "<script>alert(2)</script>" in found.text
    assert not any(name.startswith("on") for _, name, _ in found.attributes)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("photos/site é/a b.jpg", "photos/site é/a b.jpg"),
        ("/home/anna/photos/a b.jpg", "a b.jpg"),
        ("C:\\Users\\anna\\photos\\a b.jpg", "a b.jpg"),
    ],
)
def test_rejected_photos_are_told_without_a_persons_folders(make_run, path, shown):
    facts = read_run(make_run(skill={1.0: 2.5, 0.1: 2.4}, rejected=((path, "it is empty."),)))
    assert rejections(facts) == [Rejection(shown, "it is empty.")]


def test_untimed_run_says_so(make_run):
    root = make_run(timed=False)
    write_report(root)
    text = read_page(root).text
    assert "not measured" in text
    assert "faster (one thread)" not in text
    assert "t/t₀" not in text


def test_full_network_chosen_is_not_compared_with_itself(make_run):
    limits = DecisionSettings(constraints=Constraints(max_f1_drop=0.0))
    root = make_run(skill={1.0: 4.0, 0.1: 0.5}, decision=limits)
    write_report(root)
    text = read_page(root).text
    assert "The full network itself was chosen" in text
    assert "The full network was chosen: nothing is gained" in text
    assert "F1 below the full network's by at most 0" in text
    assert "not distinguishable" not in text


def test_undefined_numbers_leave_a_readable_page(make_run):
    # No target in test: recall, F1 and AUROC are undefined there.
    root = make_run()
    for path in root.glob("candidates/*/predictions.npz"):
        with np.load(path) as file:
            arrays = dict(file)
        arrays["labels"] = np.where(arrays["splits"] == "test", 0, arrays["labels"])
        np.savez(path, **arrays)
    rows = (root / "results.csv").read_text(encoding="utf-8").splitlines()
    header = rows[0].split(",")
    empty = [header.index(f"recall{end}") for end in ("", "_low", "_high", "_seed_std")]
    changed = [
        ",".join("" if i in empty else c for i, c in enumerate(row.split(","))) for row in rows[1:]
    ]
    (root / "results.csv").write_text("\n".join([rows[0], *changed]) + "\n", encoding="utf-8")
    write_report(root)
    text = read_page(root).text
    assert "undefined" in text
    assert "No interval can be given for the difference in" in text
    assert "nan" not in text.lower().split()


def test_published_decision_is_told_as_its_formula(make_run):
    root = make_run(decision=DecisionSettings("published"))
    write_report(root)
    assert "F1/F1₀ + (1 − P/P₀), with P parameters" in read_page(root).text


def test_a_folder_without_results_is_one_clear_line(tmp_path):
    with pytest.raises(UsageError, match=r"holds no results\.csv, so no finished run"):
        write_report(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        write_report(tmp_path / "missing")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / "results.csv").write_text("a,b\n1,2\n"), "has no column candidate"),
        (lambda r: (r / "results.csv").write_text(""), "has no rows"),
        (lambda r: (r / "run.json").write_text("[]"), "describes no run"),
        (lambda r: (r / "run.json").unlink(), "cannot read"),
        (lambda r: shutil.rmtree(r / "selected"), "cannot read"),
        (lambda r: _of_full(r, "predictions.npz").write_bytes(b"PK\x03\x04"), "File is not a zip"),
        (lambda r: _of_full(r, "predictions.npz").unlink(), "npz: No such file"),
        (lambda r: np.savez(_of_full(r, "predictions.npz"), a=1), "lacks 'labels'"),
        (lambda r: _of_full(r, "metrics.json").write_text("{}"), "is damaged"),
        (lambda r: _select_none(r), "marks 0 rows as the chosen candidate, expected 1"),
    ],
)
def test_damaged_runs_are_refused_in_words(make_run, damage, message):
    root = make_run(skill={1.0: 2.5, 0.1: 2.4})
    damage(root)
    with pytest.raises(DataError, match=message):
        write_report(root)
    assert not (root / "report.html").exists()


def _of_full(root, name):
    return root / "candidates" / "keep-1" / name


def _select_none(root):
    text = (root / "results.csv").read_text(encoding="utf-8")
    (root / "results.csv").write_text(re.sub(r",1,\n", ",0,\n", text), encoding="utf-8")


def test_old_plan_version_is_refused(make_run):
    root = make_run(skill={1.0: 2.5, 0.1: 2.4})
    path = root / "candidates" / "keep-0.1" / "plan.json"
    write_json(path, read_json(path) | {"version": 99})
    with pytest.raises(DataError, match="has version 99"):
        write_report(root)


def test_progress_ends_at_its_total(usual_run):
    seen = []
    write_report(usual_run, progress=lambda *stage: seen.append(stage))
    assert [done for _, done, _ in seen] == [0, 1, 2, 3]
    assert {(stage, total) for stage, _, total in seen} == {("report", 3)}

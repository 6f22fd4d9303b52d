"""``report.html`` of an inspection: static, offline, the worst photos first."""

from __future__ import annotations

import base64
import html
import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from PIL import Image

from finicky.edge.results import OVERLAYS, REPORT, ResultFolder
from finicky.files import atomic_path

# Photos that are shown; the tables hold all. Keeps the page below some 8 MB.
SHOWN = 200
_THUMBNAIL = 360
# So many regions on one photo are often no defects.
_SCATTERED = 10
_PAGE = Template((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))


def write_page(folder: ResultFolder, order: list[str], facts: Mapping[str, Any]) -> None:
    """Write the page from the journal; only what is shown is held in memory.

    Args:
        folder: A folder whose journal is complete.
        order: Keys of all photos.
        facts: Text for the page's head, plain strings by name.
    """
    ranked: list[tuple[float, float, str]] = []
    scattered = 0
    failed: list[tuple[str, str, str]] = []
    counts = {"ok": 0, "failed": 0, "skipped": 0}
    for record in folder.records(order):
        counts[record["status"]] += 1
        row = record["row"]
        if record["status"] != "ok":
            failed.append((record["key"], record["status"], str(row[-1])))
        elif row[5]:
            ranked.append((row[7], row[8], record["key"]))
            scattered += row[5] >= _SCATTERED
    ranked.sort(key=lambda entry: (-entry[0], -entry[1], entry[2]))
    found = len(ranked)
    shown = folder.records([key for _, _, key in ranked[:SHOWN]])
    with (
        atomic_path(folder.root / REPORT) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as page,
    ):
        head, tail = _PAGE.substitute(
            {name: html.escape(str(value)) for name, value in facts.items()}
            | {
                "ok": counts["ok"],
                "found": found,
                "failed": counts["failed"],
                "skipped": counts["skipped"],
                "shown": min(found, SHOWN),
                "scattered": _scattered(scattered),
                "date": time.strftime("%Y-%m-%d %H:%M"),
                "failures": "".join(_failures(failed)),
                "cards": "\0",
            }
        ).split("\0")
        page.write(head)
        for record in shown:
            page.write(_card(folder, record))
        page.write(tail)


def _card(folder: ResultFolder, record: Mapping[str, Any]) -> str:
    key, row = record["key"], record["row"]
    regions, area, percent, score = row[5:9]
    overlay = folder.path(OVERLAYS, key, ".jpg")
    picture = ""
    if overlay.is_file():
        relative = overlay.relative_to(folder.root)
        link = "/".join(quote(os.fsencode(part), safe="") for part in relative.parts)
        picture = f'<a href="{link}"><img loading="lazy" alt="" src="{_thumbnail(overlay)}"></a>'
    return (
        f"<article>{picture}<h3>{html.escape(key)}</h3><p><b>{percent:.2f} %</b> of the photo, "
        f"{regions} region{'s' if regions != 1 else ''}, {area:,} px, longest "
        f"{_longest(record['defects'])}, "
        f"highest probability {score:.2f}</p></article>\n"
    )


def _longest(defects: Sequence[Sequence[Any]]) -> str:
    row = max(defects, key=lambda row: row[10])
    return f"{row[10]:,.0f} px" + ("" if row[12] is None else f" ({row[12]:,.0f} mm)")


def known(metadata: Mapping[str, Any]) -> str:
    """How well the model does on photographs that it was checked with, if its file says."""
    try:
        checked = {
            str(name): float(figures["balanced_accuracy"][0])
            for name, figures in metadata["metrics"]["checked"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ""
    if not checked:
        return ""
    told = ", ".join(f"{name} {value:.2f}" for name, value in checked.items())
    return (
        "On photographs that it never saw it tells tiles with a defect from others with a balanced "
        f"accuracy of: {told} (0.5 is guessing). "
    )


def _scattered(photos: int) -> str:
    if not photos:
        return ""
    one = photos == 1
    return (
        f"<b>{photos} photo{' has' if one else 's have'} {_SCATTERED} regions or more: look at "
        f"{'it' if one else 'them'} first</b>; that is often gravel or texture."
    )


def _thumbnail(path: Path) -> str:
    with Image.open(path, formats=["JPEG"]) as image:
        image.draft("RGB", (_THUMBNAIL, _THUMBNAIL))
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        stream = io.BytesIO()
        image.save(stream, format="JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _failures(rows: list[tuple[str, str, str]]) -> Iterable[str]:
    if not rows:
        return
    yield "<h2>Photos without a result</h2><table><tr><th>File<th>Status<th>Reason</tr>"
    for key, status, reason in rows[:1000]:
        yield (
            f"<tr><td>{html.escape(key)}<td>{html.escape(status)}<td>{html.escape(reason)}</tr>\n"
        )
    yield "</table>"
    if len(rows) > 1000:
        yield f"<p>and {len(rows) - 1000:,} more, in summary.csv</p>"

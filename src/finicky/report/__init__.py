"""The page that tells a run: tables, plots, and why filters stayed or went."""

from finicky.report.depth import depth_lines
from finicky.report.gallery import Gallery, GalleryOptions, write_gallery
from finicky.report.page import write_report
from finicky.report.run_gallery import write_run_gallery

__all__ = [
    "Gallery",
    "GalleryOptions",
    "depth_lines",
    "write_gallery",
    "write_report",
    "write_run_gallery",
]

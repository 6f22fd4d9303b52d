"""The labeler: a local server and a page on which photos are marked, without losing a stroke."""

from finicky.labeler.server import make_app, serve
from finicky.labeler.store import MaskStore
from finicky.labeler.workplace import Workplace

__all__ = ["MaskStore", "Workplace", "make_app", "serve"]

"""Masks from other tools, and for them."""

from finicky.data.formats.exchange import (
    FORMATS,
    ExportReport,
    Format,
    ImportReport,
    export_masks,
    import_masks,
)
from finicky.data.formats.record import ExchangeOptions

__all__ = [
    "FORMATS",
    "ExchangeOptions",
    "ExportReport",
    "Format",
    "ImportReport",
    "export_masks",
    "import_masks",
]

"""A bundle behind a local page: drop a photo, see what is on it."""

from finicky.service.inspector import Inspector, Limits
from finicky.service.server import ServiceOptions, make_app, serve

__all__ = ["Inspector", "Limits", "ServiceOptions", "make_app", "serve"]

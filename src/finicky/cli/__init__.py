"""The command line: every verb parses, calls one library function and prints."""

from finicky.cli.app import main

__all__ = ["main"]

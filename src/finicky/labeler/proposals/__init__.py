"""Masks that Finicky proposes after it has seen a few photos labelled.

A small classifier looks at each pixel through line filters, blurs and edges and, where torch is
installed and a backbone was named, through the backbone's filters that overlap best with what was
marked. It learns in seconds on an office computer and is never written to disk.
"""

from finicky.labeler.proposals.proposer import Box, Proposer

__all__ = ["Box", "Proposer"]

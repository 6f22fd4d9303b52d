"""Masks that Finicky proposes after it has seen a few photos labelled.

Forests of pixels learn in seconds and make the first proposals. Where torch is installed, a small
network goes on learning in the background and takes over. Both tell all classes apart that were
marked, and both can look at the filters of a backbone that overlap best with the marks. Nothing
that was learnt is written to disk.
"""

from finicky.labeler.proposals.proposer import Box, Proposal, Proposer

__all__ = ["Box", "Proposal", "Proposer"]

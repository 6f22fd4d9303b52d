"""The page: plain files, served from this fixed list and from nowhere else."""

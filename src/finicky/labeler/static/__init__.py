"""The page: plain ES modules, served from this fixed list and from nowhere else."""

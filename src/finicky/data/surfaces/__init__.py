"""Labelled photographs of concrete, drawn from a seed: for tests, tutorials and trying things out.

They stand in for real photos where none may be shipped; they do not replace them for measuring.
"""

from finicky.data.surfaces.style import SurfaceStyle
from finicky.data.surfaces.surface import Surface, make_surface
from finicky.data.surfaces.writing import SurfaceSet, write_surfaces

__all__ = ["Surface", "SurfaceSet", "SurfaceStyle", "make_surface", "write_surfaces"]

"""Reports: HTML pages that need nothing but themselves, from values that are handed in and templates that are files."""

from .comparison_page import Comparison, comparison_page
from .run_page import run_page
from .sections import Material

__all__ = ["Comparison", "Material", "comparison_page", "run_page"]

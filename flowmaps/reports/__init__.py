"""Reports: self-contained HTML pages, from values and templates."""

from .comparison_page import Comparison, comparison_page
from .explore_page.page import explore
from .run_page import run_page
from .sections import Material

__all__ = ["Comparison", "Material", "comparison_page", "explore", "run_page"]

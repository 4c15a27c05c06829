"""The landscape: one function for each method, grouped by rule as in the post's section 5."""

from .compositional import pfmm, psd, shortcut, splitmeanflow
from .diffusion import flow_matching
from .eulerian import ayf_emd, emd, esd, imf, meanflow
from .lagrangian import ayf_lmd, lmd, lsd
from .landscape import LANDSCAPE, Row

__all__ = [
    "LANDSCAPE",
    "Row",
    "ayf_emd",
    "ayf_lmd",
    "emd",
    "esd",
    "flow_matching",
    "imf",
    "lmd",
    "lsd",
    "meanflow",
    "pfmm",
    "psd",
    "shortcut",
    "splitmeanflow",
]

"""The landscape: one function for each method, grouped by rule as in the post's section 5."""

from .compositional import fmm, pfmm, progressive_distillation, psd, shortcut, splitmeanflow
from .consistency_models import cd, ct, ctm, ect, ict, lcm
from .data_free import boot, freeflow, pid
from .diffusion import flow_matching
from .eulerian import ayf_emd, emd, esd, facm
from .lagrangian import ayf_lmd, lmd, lsd, tvm
from .landscape import LANDSCAPE, Row
from .mean_flows import alphaflow, dmf, imf, meanflow, pixel_meanflow, rectified_meanflow, soflow
from .mid_training import cmt
from .trig_flow import scd, sct

__all__ = [
    "LANDSCAPE", "Row",
    "flow_matching",
    "lmd", "lsd", "ayf_lmd", "tvm", "freeflow", "pid", "boot",
    "ct", "cd", "ctm", "emd", "esd", "ayf_emd", "soflow", "facm", "meanflow", "imf",
    "alphaflow", "dmf", "rectified_meanflow", "pixel_meanflow", "ict", "ect", "sct", "scd", "lcm", "cmt",
    "shortcut", "splitmeanflow", "psd", "fmm", "pfmm", "progressive_distillation",
]  # fmt: skip

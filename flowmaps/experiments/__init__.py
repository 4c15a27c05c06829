"""Whole experiments as plain functions, with the arguments and the defaults of the commands of the same names.

    run = fm.experiments.train("digits", method="imf", guidance=(1, 8), steps=2000)
    x = fm.experiments.sample(run, n=16, guidance=2)
    fm.experiments.compare("checkerboard", ["imf", "lsd"], steps=1000)      # a table, in a notebook too
    fast = fm.experiments.distill(run, method="ayf_emd")

They write run folders, as the commands do, and resume interrupted ones. Only the progress bar is printed; pass
`say=print` for messages. `flowmaps.train` and `flowmaps.sample` are the functions below them, for your own flow maps
and methods, with or without a folder.
"""

from importlib import import_module
from typing import Any

__all__ = [
    "ComparisonResult", "DryRun", "Explanation", "Exported", "LikelihoodTable", "PostTrainedRun", "Steered",
    "TrainedRun", "compare", "distill", "evaluate", "explain", "explore", "export", "likelihood", "plan", "posttrain",
    "report", "sample", "steer", "train",
]  # fmt: skip

# Each needs other packages, so it is imported on first use: name -> module, attribute.
_LAZY = {
    "ComparisonResult": (".comparison", "ComparisonResult"),
    "DryRun": (".dry_run", "DryRun"),
    "Explanation": (".explaining", "Explanation"),
    "Exported": (".exporting", "Exported"),
    "LikelihoodTable": (".likelihood_table", "LikelihoodTable"),
    "PostTrainedRun": (".posttraining", "PostTrainedRun"),
    "Steered": (".steered_result", "Steered"),
    "TrainedRun": (".trained_run", "TrainedRun"),
    "compare": (".comparison", "compare"),
    "distill": (".distillation", "distill"),
    "evaluate": (".evaluation", "evaluate"),
    "explain": (".explaining", "explain"),
    "explore": (".exploring", "explore"),
    "export": (".exporting", "export"),
    "likelihood": (".likelihoods", "likelihood"),
    "plan": (".planning", "plan"),
    "posttrain": (".posttraining", "posttrain"),
    "report": (".reporting", "report"),
    "sample": (".sampling", "sample"),
    "steer": (".steered_sampling", "steer"),
    "train": (".training", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowmaps.experiments' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    return getattr(import_module(module, __name__), attribute)

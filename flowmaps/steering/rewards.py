"""Rewards: the log-weights that steering gives to data.

A reward is any function of data x0 (B, ...) that returns one number for each row, (B,). Steering samples the law

    p(x0) e^{r(x0)} / Z.

A plain function is enough. The rewards of this module add (`+`), scale (`*`), and know more: their mean over a Gaussian
(`widened`), and whether they tilt a flow exactly (`isotropic`, `quadratic`).
"""

from .labels import Label, label
from .measurements import Distance, Likelihood, Linear
from .operators import Operator, blur, downsample, mask
from .reward import Decoded, Reward, Rewards, Scaled, Sum, decoded, rewarded, scaled

__all__ = [
    "Decoded", "Distance", "Label", "Likelihood", "Linear", "Operator", "Reward", "Rewards", "Scaled", "Sum", "blur",
    "decoded", "downsample", "label", "mask", "rewarded", "scaled",
]  # fmt: skip

"""Networks of two times: `MLP`, `ConcatMLP`, `DiT`, `UNet`, `TokenTransformer`.

Each is called as network(x, s, t, label=None).

`Critic` and `ImageCritic`, called as critic(x, label=None), are discriminators for adversarial stages. `TimeCritic` and
`Heads`, called as critic(x, t, **condition), make critics of other networks, for the adversarial methods.

`WithBackbone` puts a `Head` on a backbone, `CausalTransformer` or `Recurrent`, for autoregressive models.
"""

from .backbones import CausalTransformer, Recurrent
from .circles import OnCircles
from .critic import Critic, ImageCritic
from .dit import DiT
from .divergence import DivergenceHead, WithDivergence
from .embeddings import (
    TIME_CONDITIONINGS,
    Decoupled,
    Fourier,
    TimeConditioning,
    TimeFeatures,
    decoupled,
    expanded,
    gap,
    gap_only,
    none,
    pair,
    raw,
    source_only,
)
from .head import Head
from .heads import Heads, TimeCritic
from .initialise import two_times
from .layers import learned_norm, plain_norm, rms_norm, spectral_, unchanged
from .mlp import MLP, ConcatMLP
from .self_conditioning import SelfConditioned
from .token_transformer import TokenTransformer
from .unet import UNet
from .with_backbone import WithBackbone
from .wrap import GaussianEndpoint, GaussianInput, InBasis, StateInput, pca_basis

__all__ = [
    "CausalTransformer",
    "ConcatMLP",
    "Critic",
    "Decoupled",
    "DiT",
    "DivergenceHead",
    "Fourier",
    "GaussianEndpoint",
    "GaussianInput",
    "Head",
    "Heads",
    "ImageCritic",
    "InBasis",
    "MLP",
    "OnCircles",
    "Recurrent",
    "SelfConditioned",
    "StateInput",
    "TIME_CONDITIONINGS",
    "TimeConditioning",
    "TimeCritic",
    "TimeFeatures",
    "TokenTransformer",
    "UNet",
    "WithBackbone",
    "WithDivergence",
    "decoupled",
    "expanded",
    "gap",
    "gap_only",
    "learned_norm",
    "none",
    "pair",
    "pca_basis",
    "plain_norm",
    "raw",
    "rms_norm",
    "source_only",
    "spectral_",
    "two_times",
    "unchanged",
]

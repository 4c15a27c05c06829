"""The networks under test, small, and what turns a fresh network into one without zeros."""

import torch

from flowmaps import networks as nets
from flowmaps import outputs, path

IMAGE = (2, 8, 8)
CLASSES = 3


def mlp(**options):
    return nets.MLP(IMAGE, width=16, depth=3, embedding=8, **options)


def concat_mlp(**options):
    return nets.ConcatMLP(IMAGE, width=16, depth=2, data_std=0.5, **options)


def dit(**options):
    return nets.DiT(IMAGE, patch=4, width=16, depth=3, heads=2, **options)


def unet(**options):
    return nets.UNet(IMAGE, width=8, multipliers=(1, 2), blocks=1, attention=(4,), head_width=8, **options)


def rotated(**options):
    basis, _ = torch.linalg.qr(torch.randn(128, 128, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
    return nets.InBasis(mlp(**options), basis)


def scaled(**options):
    mean, variances = torch.linspace(-1, 1, 128).reshape(IMAGE), torch.linspace(0.1, 4, 128).reshape(IMAGE)
    return nets.GaussianInput(mlp(**options), mean, variances, path.linear)


def waves(**options):
    return mlp(waves=5, frequency=0.5, **options)


def ended(**options):
    images = torch.randn(20, *IMAGE, generator=torch.Generator().manual_seed(6))
    return nets.GaussianEndpoint(unet(**options), outputs.SeparableSkip.fit(images), path.linear)


NETWORKS = {
    "mlp": mlp, "mlp_with_waves": waves, "concat_mlp": concat_mlp, "dit": dit, "unet": unet, "in_basis": rotated,
    "gaussian_input": scaled, "gaussian_endpoint": ended,
}  # fmt: skip
SINGLE_LAYER = {"concat_mlp"}  # sees the times in one layer only, which cannot be decoupled
PLAIN_START = {"concat_mlp"}  # starts with torch's own initialisation, not at zero

CASES = [
    (name, times)
    for name in NETWORKS
    for times in nets.TIME_CONDITIONINGS
    if not (name in SINGLE_LAYER and times == "decoupled")
]


def build(name, times="pair", seed=0, **options):
    torch.manual_seed(seed)
    return NETWORKS[name](times=nets.TIME_CONDITIONINGS[times], **options)


def perturbed(network, seed=1):
    """The network with all weights moved, so that layers that start at zero take part."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network


def inputs(batch=4, dtype=torch.float64, seed=2):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, *IMAGE, generator=g, dtype=dtype)
    s, t = torch.rand(2, batch, generator=g, dtype=dtype)
    return x, s, t


def labels(batch=4):
    return torch.arange(batch) % CLASSES

"""The measured networks: DiT-B/2 and DiT-XL/2 on latents of 4 x 32 x 32, and tiny ones for a rehearsal."""

from __future__ import annotations

import torch

import flowmaps as fm
from benchmarks.cost.networks import DEVICE, Case, Setting, filled

LATENTS = (4, 32, 32)
MEMORY = 139
"""GiB of the GPU for which the numbers of rows are meant; a smaller one gets fewer."""
CASES = {
    "dit-xl": Case(lambda: fm.networks.DiT.extra_large(LATENTS, 2), LATENTS, 64),
    "dit-b": Case(lambda: fm.networks.DiT.base(LATENTS, 2), LATENTS, 128),
}
SMALL = {name: Case(lambda: fm.networks.DiT((4, 8, 8), 2, width=32, depth=2, heads=2), (4, 8, 8), 8) for name in CASES}
NAMES = {"dit-xl": "DiT-XL/2", "dit-b": "DiT-B/2"}


def setting(name: str, small: bool) -> Setting:
    """The network, made on its device, with its batch, in bfloat16; no step here has another teacher."""
    case = (SMALL if small else CASES)[name]
    torch.manual_seed(0)
    with DEVICE:
        network = filled(case.make())
    return Setting(network, network, torch.randn(rows_of(case, small), *case.shape, device=DEVICE), half=True)


def rows_of(case: Case, small: bool) -> int:
    """The rows of a batch: the ones of the case, halved until they are in proportion to the memory of the GPU."""
    rows = case.rows
    if small or DEVICE.type != "cuda":
        return rows
    share = torch.cuda.get_device_properties(DEVICE).total_memory / 2**30 / MEMORY
    while rows > 8 and rows > case.rows * share * 1.05:
        rows //= 2
    return rows

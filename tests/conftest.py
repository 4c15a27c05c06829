"""Every test starts from the same random numbers."""

import pytest
import torch

# torch keeps a seed for a device that is not there, with the stack of the call, which takes longer than most tests
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)

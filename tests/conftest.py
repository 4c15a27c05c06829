"""Every test starts from the same random numbers."""

import gc

import pytest
import torch

# torch keeps a seed for a device that is not there, with the stack of the call, which takes longer than most tests
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None

gc.set_threshold(20_000, 20, 20)  # graphs of tests are small and many; the usual threshold costs a tenth of the time


def pytest_collection_finish():
    """Modules and tests stay to the end, so no collection of garbage looks at them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)

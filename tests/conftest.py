"""Every test starts from the same random numbers; long files come first, so that no worker is left alone with one."""

import signal
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
LONGEST = (
    "methods/test_rewards.py",
    "methods/test_distributional.py",
    "benchmarks/test_gpu.py",
    "methods/test_posterior.py",
    "test_compile.py",
    "test_docs.py",
    "export/test_program.py",
    "test_examples.py",
    "cli/test_compare.py",
    "security/test_push.py",
    "distributed/test_launchers.py",
    "security/test_pretrained.py",
    "experiments/test_posttraining.py",
    "experiments/test_likelihood.py",
    "export/test_export.py",
    "wrong_inputs/test_experiments.py",
)
"""The files that take longest, fast or slow tests of them."""

# torch keeps a seed for a device that is not there, with the stack of the call, which takes longer than most tests
for device in (torch.cuda, torch.xpu, torch.mtia):
    if not device.is_available():
        device.manual_seed_all = lambda seed: None

# a shell starts programs in the background with Ctrl-C ignored, and tests send it to themselves
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path, config):
    """Leave out files without a test that is asked for, slow or fast, because importing all files takes long."""
    asked = config.option.markexpr
    if asked not in ("slow", "not slow") or not collection_path.match("test_*.py"):
        return None
    text = collection_path.read_text()
    without = "mark.slow" not in text if asked == "slow" else "\npytestmark = pytest.mark.slow\n" in text
    return True if without else None


def pytest_collection_modifyitems(items):
    """Begin with the longest files; the others keep their order."""
    places = {HERE / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)

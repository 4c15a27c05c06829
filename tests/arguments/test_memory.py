"""Memory: rows at a time, large requests against the free memory."""

import pytest
import torch

import flowmaps as fm
from flowmaps.arguments import memory
from flowmaps.arguments.memory import as_text, available, check_room, rows_at_a_time
from flowmaps.sampling import sample_, time_grid


class Counting(torch.nn.Module):
    """A network that notes the number of rows of each call."""

    def __init__(self):
        super().__init__()
        self.inner = fm.networks.MLP(3, 16, 2, classes=4)
        torch.nn.init.normal_(self.inner.output.weight)
        self.rows = []

    def forward(self, x, s, t, label=None):
        self.rows.append(len(x))
        return self.inner(x, s, t, label)


@pytest.mark.parametrize(
    ("values", "most", "rows"),
    [
        (2, 8192, 8192),
        (64, 8192, 8192),
        (3072, 8192, 336),
        (196_608, 8192, 5),
        (10**9, 8192, 1),
        (2, 100, 96),
        (2, 7, 7),
    ],
)
def test_fewer_large_rows_at_a_time(values, most, rows):
    assert rows_at_a_time(values, most) == rows


@pytest.mark.parametrize(
    "step", [fm.steps.jump, fm.steps.heun, fm.steps.restart, fm.steps.ancestral, fm.steps.sde(0.5)]
)
def test_batches_give_the_numbers_of_all_rows_at_once(step):
    flow = fm.FlowMap(Counting())
    noise, label = torch.randn(200, 3), torch.arange(200) % 4
    before = noise.clone()
    options = {"steps": 3, "step": step, "condition": label, "seed": 7}
    whole = fm.sample(flow, noise, **options)
    flow.network.rows.clear()
    parts = fm.sample(flow, noise, **options, batch_size=48)
    assert max(flow.network.rows) == 48 and set(flow.network.rows) == {48, 8}
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
    assert torch.equal(noise, before)


def test_random_steps_draw_the_same_numbers_in_batches():
    def noisy(flow, x, s, t):
        return x + torch.randn_like(x)

    noise = torch.zeros(1000, 3)
    whole = fm.sample(None, noise, 4, step=noisy, seed=3)
    assert torch.equal(fm.sample(None, noise, 4, step=noisy, seed=3, batch_size=160), whole)
    assert (noise == 0).all()


def test_conditions_that_are_bound_before_are_divided_too():
    flow = fm.FlowMap(Counting())
    noise, label = torch.randn(50, 3), torch.arange(50) % 4
    whole = fm.sample(flow.given(label=label), noise)
    torch.testing.assert_close(fm.sample(flow.given(label=label), noise, batch_size=16), whole)
    torch.testing.assert_close(
        fm.sample(flow.given(label=2), noise, batch_size=16), fm.sample(flow, noise, condition={"label": 2})
    )


def test_sampling_in_place_returns_the_noise():
    x = torch.randn(5, 3)
    assert sample_(lambda rows: None, x, time_grid(2), lambda flow, x, s, t: x + 1, None, 2) is x


def test_the_free_memory_is_known_here():
    assert available() is None or available() > 2**20


def test_a_system_that_tells_nothing_refuses_nothing(monkeypatch):
    monkeypatch.setattr(memory, "_text", lambda path: "")
    monkeypatch.delattr(memory.os, "sysconf")
    assert available() is None
    check_room(10**18, "a million rows take", "take fewer")


@pytest.mark.parametrize(
    ("texts", "free"),
    [
        ({"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    5 kB\n"}, 5120),
        ({"/proc/meminfo": "MemAvailable: 5 kB\n", "/sys/fs/cgroup/memory.max": "4096\n"}, 4096),
        ({"/proc/meminfo": "MemAvailable: 5 kB\n", "/sys/fs/cgroup/memory.max": "max\n"}, 5120),
    ],
)
def test_the_smallest_limit_counts(monkeypatch, texts, free):
    monkeypatch.setattr(memory, "_text", lambda path: texts.get(path, ""))
    assert available() == free


def test_a_request_is_announced_where_it_is_large_and_refused_where_it_does_not_fit(monkeypatch):
    said = []
    monkeypatch.setattr(memory, "available", lambda: 10**10)
    check_room(10**8, "3 samples take", "take fewer", said.append)
    assert not said
    check_room(2 * 10**9, "3 samples take", "take fewer", said.append)
    assert said == ["3 samples take 2.0 GB of memory"]
    with pytest.raises(ValueError, match="3 samples take 20.0 GB of memory, and 10.0 GB are free: take fewer"):
        check_room(2 * 10**10, "3 samples take", "take fewer", said.append)
    assert as_text(5 * 10**6) == "5.0 MB" and as_text(1_234 * 10**9) == "1,234.0 GB"

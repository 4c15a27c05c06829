"""Several processes share a batch: each takes its own rows of everything that a batch holds."""

from types import SimpleNamespace

import torch

import flowmaps as fm
from flowmaps.data import Batch
from flowmaps.training.job import Job


def test_rows_labels_and_noise_are_shared_alike():
    seen = []

    class Recording(SimpleNamespace):
        def advance(self, batch, progress):
            seen.append(batch)

    numbers = torch.arange(6)
    whole = Batch(numbers[:, None] + 0.25, numbers, numbers[:, None] + 0.75)
    for process in range(2):
        accelerator = SimpleNamespace(process_index=process, num_processes=2, is_main_process=process == 0)
        learner = Recording(accelerator=accelerator, plan=SimpleNamespace(progress=lambda *_: 0.0), step=0)
        Job(learner, fm.data.nothing((1,), 6), None, {}, 1, 1, 0).advance(iter([whole]))
        Job(learner, fm.data.nothing((1,)), None, {}, 1, 1, 0).advance(iter([Batch(whole.x0)]))
    for process, batch in enumerate(seen[::2]):
        assert batch.label.tolist() == [process, process + 2, process + 4]
        assert torch.equal(batch.x0[:, 0], batch.label + 0.25) and torch.equal(batch.noise[:, 0], batch.label + 0.75)
    assert all(batch.label is None and batch.noise is None and len(batch.x0) == 3 for batch in seen[1::2])


def test_the_loss_is_that_of_the_coupled_noise():
    pairs = fm.data.reflow(fm.exact.Gaussian(torch.zeros(2), torch.ones(2)), fm.data.nothing((2,)), 20, steps=2)
    seen = []

    def rule(flow, teacher, x, s, t):
        seen.append((x, teacher.velocity(x, s)))
        return flow.velocity(x, s) - 0.0

    method = fm.Method(fm.Term(rule, times=lambda n, progress, like: (torch.ones(n), torch.ones(n))))
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    next(fm.train(flow, method, pairs, steps=1, batch_size=20, progress_bar=False))
    batch = next(pairs.batches(20, seed=0))
    assert torch.allclose(seen[0][0], batch.noise) and torch.allclose(seen[0][1], batch.noise - batch.x0)

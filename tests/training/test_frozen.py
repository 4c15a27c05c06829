"""Weights that are not trained: one copy of them in memory, whatever is made of the flow; no optimizer has them."""

import copy

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.exact import Gaussian
from flowmaps.training import train
from flowmaps.training.ema import Average
from flowmaps.training.learner import Learner
from flowmaps.velocity import Auxiliary, Phased, averaged, fixed
from tests.training.support import GAUSSIAN, QUIET, chasing, phased, slowing_average, staged

METHODS = {
    "no target": fm.methods.meanflow,
    "averaged target": slowing_average,
    "phases": phased,
    "auxiliary": chasing,
    "stages": staged,
}


class Half(nn.Module):
    """A frozen layer and a trained one."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(4, 8), nn.Linear(8, 2)
        self.base.requires_grad_(False)

    def forward(self, x, s, t):
        return self.head(torch.tanh(self.base(torch.cat([x, s[:, None], t[:, None]], 1))))


def half():
    torch.manual_seed(0)
    return fm.FlowMap(Half())


def storages(*modules):
    return {weight.untyped_storage().data_ptr() for module in modules for weight in module.parameters()}


def shared(network, other):
    return network.base.weight is other.base.weight and network.head.weight is not other.head.weight


def test_the_average_moves_what_is_trained_and_shares_the_rest():
    flow = half()
    average = Average(flow, 0.5)
    before = flow.network.head.weight.detach().clone()
    with torch.no_grad():
        flow.network.head.weight += 1
    average.update()
    assert shared(average.flow.network, flow.network)
    torch.testing.assert_close(average.flow.network.head.weight, before + 0.9)
    assert len(storages(flow, average.flow)) == 6


def test_the_average_of_a_flow_that_is_frozen_as_a_whole_is_the_flow():
    flow = half().requires_grad_(False)
    average = Average(flow, 0.5)
    average.update()
    assert storages(flow) == storages(average.flow)


@pytest.mark.parametrize("make", [lambda: averaged(0.5), lambda: Phased(fixed(GAUSSIAN), 2), Auxiliary])
def test_companions_share_what_is_not_trained(make):
    flow, companion = half(), make()
    companion.make(flow)
    assert shared(companion.network, flow.network)
    trained = [name for name, weight in companion.network.named_parameters() if weight.requires_grad]
    assert trained == (["head.weight", "head.bias"] if isinstance(companion, Auxiliary) else [])
    companion.begin(flow)
    companion.follow(flow, 0.9, moved=True)
    assert shared(companion.network, flow.network)


def test_an_auxiliary_that_starts_from_a_frozen_teacher_is_a_copy_and_trained_as_a_whole():
    teacher = half().requires_grad_(False)
    made = Auxiliary(teacher).network
    assert all(weight.requires_grad for weight in made.parameters())
    assert not storages(made) & storages(teacher)
    partly = half()
    assert shared(Auxiliary(partly).network, partly.network)


def test_what_is_shared_stays_shared_in_another_dtype():
    flow = half()
    average, target = Average(flow, 0.5), averaged(0.5)
    target.make(flow)
    for module in (flow, average.flow, target):
        module.double()
    assert shared(average.flow.network, flow.network) and shared(target.network, flow.network)


def test_a_weight_that_is_thawed_after_it_was_shared_is_refused():
    flow, target = half(), averaged(0.5)
    target.make(flow)
    flow.requires_grad_()
    with pytest.raises(RuntimeError, match="set requires_grad before the first loss"):
        target.follow(flow, moved=True)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_leaves_frozen_weights_and_their_only_copy_alone(method, accumulate):
    flow, made = half(), METHODS[method]()
    before = copy.deepcopy(flow.network.state_dict())
    for state in train(flow, made, GAUSSIAN, steps=4, lr=1e-2, accumulate=accumulate, **QUIET):
        assert state.ema.network.base.weight is flow.network.base.weight
    after = flow.network.state_dict()
    assert {name for name in after if torch.equal(after[name], before[name])} == {"base.weight", "base.bias"}
    frozen = {w.untyped_storage().data_ptr() for w in flow.network.base.parameters()}
    copies = [module for part in (flow, made, state.ema) for module in part.modules() if isinstance(module, Half)]
    assert len(copies) >= 2
    assert {w.untyped_storage().data_ptr() for half in copies for w in half.base.parameters()} == frozen


def test_training_with_frozen_weights_is_training_with_a_function():
    """The same layer outside of the module gives the same numbers."""

    class Outside(Half):
        def __init__(self):
            super().__init__()
            self.fixed = [self.base]
            del self.base

        def forward(self, x, s, t):
            return self.head(torch.tanh(self.fixed[0](torch.cat([x, s[:, None], t[:, None]], 1))))

    torch.manual_seed(0)
    flows = [half(), fm.FlowMap(Outside())]
    flows[1].network.fixed[0].load_state_dict(flows[0].network.base.state_dict())
    flows[1].network.head.load_state_dict(flows[0].network.head.state_dict())
    for flow in flows:
        *_, last = train(flow, slowing_average(), GAUSSIAN, steps=5, lr=1e-2, clip=0.1, **QUIET)
        flow.average = last.ema.network.head
    for part in (lambda flow: flow.network.head, lambda flow: flow.average):
        for mine, theirs in zip(*(part(flow).parameters() for flow in flows), strict=True):
            assert torch.equal(mine, theirs)


def test_the_optimizer_has_only_what_is_trained():
    made = []

    def optimizer(weights):
        made.extend(weights)
        return torch.optim.SGD(made, lr=0.1)

    list(train(half(), fm.methods.meanflow(), GAUSSIAN, steps=1, optimizer=optimizer, **QUIET))
    assert [tuple(weight.shape) for weight in made] == [(2, 8), (2,)]


def test_a_run_with_frozen_weights_is_resumed_and_loaded(tmp_path):
    options = {"lr": 1e-2, **QUIET}
    flow = half()
    for state in train(flow, slowing_average(), GAUSSIAN, steps=6, out=tmp_path / "run", **options):
        if state.step == 3:
            break
    again = half()
    *_, state = train(again, slowing_average(), GAUSSIAN, steps=6, out=tmp_path / "run", resume=True, **options)
    *_, whole = train(half(), slowing_average(), GAUSSIAN, steps=6, **options)
    for mine, theirs in zip(state.ema.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert shared(state.ema.network, again.network)
    loaded = fm.load(tmp_path / "run", Half())
    for mine, theirs in zip(loaded.parameters(), whole.ema.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_nan_in_what_training_changes_is_seen_and_one_in_frozen_weights_is_not_its_business():
    flow, method = half(), slowing_average()
    from accelerate import Accelerator

    from flowmaps.training import TrainConfig

    config = TrainConfig(steps=1, batch_size=4, schedule=lambda p: 1.0, ema=0.5, labels=False)
    learner = Learner(flow, method, config, Accelerator(cpu=True))
    with torch.no_grad():
        flow.network.base.weight[0, 0] = torch.nan
    assert learner.is_finite()
    with torch.no_grad():
        learner.average.flow.network.head.weight[0, 0] = torch.nan
    assert not learner.is_finite()


def test_x_has_the_dtype_of_the_widest_weights():
    flow = half()
    flow.network.base.to(torch.bfloat16)
    assert flow.like.dtype == torch.float32 and flow.double().like.dtype == torch.float64
    assert fm.FlowMap(lambda x, s, t: x).like.dtype == torch.get_default_dtype()


def test_a_frozen_base_in_half_precision_trains():
    class Cast(Half):
        def forward(self, x, s, t):
            inner = torch.cat([x, s[:, None], t[:, None]], 1).to(self.base.weight.dtype)
            return self.head(torch.tanh(self.base(inner)).to(self.head.weight.dtype))

    torch.manual_seed(0)
    flow = fm.FlowMap(Cast())
    flow.network.base.to(torch.bfloat16)
    data = Gaussian(torch.zeros(2), torch.ones(2))
    *_, state = train(flow, fm.methods.flow_matching(), data, steps=2, **QUIET)
    assert state.ema.network.base.weight.dtype == torch.bfloat16
    assert state.loss.terms["diffusion"].residual.dtype == torch.float32

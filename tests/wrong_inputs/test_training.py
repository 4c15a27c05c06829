"""Wrong inputs of methods, losses, training and its settings."""

import copy

import pytest
import torch

import flowmaps as fm
from tests.in_one import in_one
from tests.wrong_inputs.support import Writes, cases, refuse

METHODS = cases(
    """
    fm.methods.imf(diagonal=nan)
    fm.methods.imf(diagonal=2.0)
    fm.methods.meanflow(diagonal=-0.5)
    fm.methods.meanflow(diagonal="half")
    fm.methods.meanflow(times="gap")
    fm.methods.meanflow(weight=0.1)
    fm.methods.lsd(diagonal=nan)
    fm.methods.lsd(diagonal=True)
    fm.methods.shortcut(levels=0)
    fm.methods.shortcut(levels=1.5)
    fm.methods.shortcut(levels=True)
    fm.methods.shortcut(ema=1.0)
    fm.methods.shortcut(ema=nan)
    fm.methods.psd(split=None, diagonal=1.5)
    fm.methods.lmd()
    fm.methods.lmd(None)
    fm.methods.lmd(network)
    fm.methods.lmd("runs/teacher")
    fm.methods.cd(gaussian, points=1)
    fm.methods.cd(gaussian, points=2.5)
    fm.methods.cd(gaussian, ema=nan)
    fm.methods.lcm(gaussian, points=0)
    fm.methods.ctm(gaussian, denoising=nan)
    fm.methods.ctm(gaussian, denoising=1.0)
    fm.methods.pfmm(gaussian, phases=0)
    fm.methods.pfmm(gaussian, phases=2.5)
    fm.methods.progressive_distillation(gaussian, levels=0)
    fm.methods.ict(std=nan)
    fm.methods.ect(q=inf)
    fm.Method()
    fm.Method(None)
    fm.Method(fm.consistency.diffusion)
    fm.Term(None)
    fm.Term("lagrangian")
    fm.Term(fm.consistency.diffusion, None)
    fm.Term(fm.consistency.diffusion, share=0)
    fm.Term(fm.consistency.diffusion, share=1.5)
    fm.Term(fm.consistency.diffusion, share=nan)
    fm.Term(fm.consistency.diffusion, times=0.5)
    fm.Term(fm.consistency.diffusion, weight=2.0)
    fm.Term(fm.consistency.lagrangian)
    fm.Term(fm.consistency.diffusion, times=fm.times.gap)
    fm.Term(fm.consistency.diffusion, weight=fm.weight.adaptive)
    fm.Term(fm.consistency.diffusion, weight={"diffusion": fm.weight.huber})
    fm.Term(functools.partial(fm.consistency.eulerian, derivative=fm.derivative.finite_difference))
    fm.methods.lsd(times=fm.times.uniform_triangle)
    fm.methods.imf(weight=fm.weight.cauchy)
    fm.methods.imf(derivative=fm.derivative.finite_difference)
    fm.times.both_directions(fm.times.gap)
    fm.times.mixture(0.5, fm.times.gap(), fm.times.strip)
    fm.training.LossModule(flow, "imff")
    fm.training.LossModule(network, method)
    fm.training.LossModule(flow, None)
    fm.fit(network, method, data, steps=1)
    fm.fit(flow, data, method, steps=1)
    fm.Stages((0.5, "imf"))
    fm.Stages((0.5, fm.methods.imf))
    fm.Stages()
    fm.Stages((0.5, None))
    fm.Stages((0, method))
    fm.Stages((nan, method))
    fm.Stages(method)
    """
)

LOSSES = cases(
    """
    method.loss(None, x)
    method.loss(network, x)
    method.loss(fm.FlowMap, x)
    method.loss(fm.FlowMap(torch.nn.Linear(2, 2)), x)
    method.loss(fm.FlowMap(OneTime()), x)
    fm.fit(fm.FlowMap(OneTime()), method, data, steps=1)
    method.loss(flow, None)
    method.loss(flow, x.tolist())
    method.loss(flow, x.numpy())
    method.loss(flow, whole)
    method.loss(flow, x > 0)
    method.loss(flow, x.to(torch.complex64))
    method.loss(flow, x.double())
    method.loss(flow, x[0])
    method.loss(flow, torch.tensor(1.0))
    method.loss(flow, x[:0])
    method.loss(flow, x[:1])
    method.loss(flow, meta)
    method.loss(flow, torch.randn(4, 3))
    method.loss(flow, x, label)
    method.loss(classes, x, label[:3])
    method.loss(classes, x, label + 5)
    method.loss(classes, x, label.float())
    method.loss(classes, x, 3)
    method.loss(classes, x, "cat")
    method.loss(classes, x, [0, 1, 2, 0])
    method.loss(flow, x, noise=whole)
    method.loss(flow, x, noise=x[:2])
    method.loss(flow, x, noise=x.numpy())
    method.loss(flow, x, noise=meta)
    method.loss(flow, x, times=0.5)
    method.loss(flow, x, times=(0.5,))
    method.loss(flow, x, times="10")
    method.loss(flow, x, times=("1", "0"))
    method.loss(flow, x, times=(1.0, nan))
    method.loss(flow, x, times=(1.5, 0.0))
    method.loss(flow, x, times=(torch.rand(3), 0.0))
    method.loss(flow, x, progress=nan)
    method.loss(flow, x, progress=2.0)
    method.loss(flow, x, progress="0")
    method.loss(flow, x, rows=fm.Rows(0, 2, 4))
    fm.methods.lmd(flow).loss(flow, x)
    fm.methods.lmd(flow.around(flow.network)).loss(flow, x)
    fm.methods.splitmeanflow(flow).loss(flow, x)
    fm.methods.progressive_distillation(flow).loss(flow, x)
    fm.methods.lmd(fm.guidance.autoguidance(flow, gaussian, 2.0)).loss(flow, x)
    fm.methods.lmd(writes).loss(flow, x)
    fm.methods.cd(writes).loss(flow, x)
    fm.methods.lmd(writing).loss(flow, x)
    method.loss(writing, x)
    fm.methods.lmd(fm.exact.Gaussian([0.0, 0.0], path=fm.path.trigonometric)).loss(flow, x)
    fm.methods.lmd(fm.exact.Gaussian([0.0, 0.0, 0.0])).loss(flow, x)
    """
)

TRAINING = cases(
    """
    fm.train(fm.FlowMap(scripted), method, data, steps=1)
    fm.train(None, method, data, steps=1)
    fm.train(network, method, data, steps=1)
    fm.train(gaussian, method, data, steps=1)
    fm.train(fm.FlowMap, method, data, steps=1)
    fm.train(flow, None, data, steps=1)
    fm.train(flow, "imff", data, steps=1)
    fm.train(flow, "lmd", data, steps=1)
    fm.train(flow, fm.methods.lmd, data, steps=1)
    fm.train(flow, method, None, steps=1)
    fm.train(flow, method, whole, steps=1)
    fm.train(flow, method, rows * nan, steps=1)
    fm.train(flow, method, data)
    fm.train(copy.deepcopy(flow).bfloat16(), method, data, steps=1)
    fm.train(copy.deepcopy(flow).half(), method, data, steps=1)
    fm.train(flow, method, data, epochs=1)
    fm.train(flow, method, data, steps=0)
    fm.train(flow, method, data, steps=-1)
    fm.train(flow, method, data, steps=1.5)
    fm.train(flow, method, data, steps=True)
    fm.train(flow, method, data, steps="10")
    fm.train(flow, method, data, seconds=0)
    fm.train(flow, method, data, seconds=nan)
    fm.train(flow, method, data, seconds=inf)
    fm.train(flow, method, data, seconds="2m")
    fm.train(flow, method, data, steps=1, seconds=1.0)
    fm.train(flow, method, data, steps=1, batch_size=0)
    fm.train(flow, method, data, steps=1, batch_size=1.5)
    fm.train(flow, method, data, steps=1, batch_size=True)
    fm.train(flow, method, data, steps=1, batch_size=None)
    fm.train(flow, method, data, steps=1, lr=nan)
    fm.train(flow, method, data, steps=1, lr=0)
    fm.train(flow, method, data, steps=1, lr=-1e-3)
    fm.train(flow, method, data, steps=1, lr=inf)
    fm.train(flow, method, data, steps=1, lr="1e-3")
    fm.train(flow, method, data, steps=1, ema=1.0)
    fm.train(flow, method, data, steps=1, ema=-0.1)
    fm.train(flow, method, data, steps=1, ema=nan)
    fm.train(flow, method, data, steps=1, ema=None)
    fm.train(flow, method, data, steps=1, clip=0)
    fm.train(flow, method, data, steps=1, clip=nan)
    fm.train(flow, method, data, steps=1, clip="1")
    fm.train(flow, method, data, steps=1, seed=-1)
    fm.train(flow, method, data, steps=1, seed=2**64)
    fm.train(flow, method, data, steps=1, seed=0.5)
    fm.train(flow, method, data, steps=1, seed=None)
    fm.train(flow, method, data, steps=1, precision="fp8")
    fm.train(flow, method, data, steps=1, precision=None)
    fm.train(flow, method, data, steps=1, compile="yes")
    fm.train(flow, method, data, steps=1, progress_bar=1)
    fm.train(flow, method, data, steps=1, resume="yes")
    fm.train(flow, method, data, steps=1, resume=True)
    fm.train(flow, method, data, steps=1, checkpoint_every=0)
    fm.train(flow, method, data, steps=1, checkpoint_every=1.5)
    fm.train(flow, method, data, steps=1, keep=0)
    fm.train(flow, method, data, steps=1, keep=True)
    fm.train(flow, method, data, steps=1, log_every=0)
    fm.train(flow, method, data, steps=1, sample_every=-1)
    fm.train(flow, method, data, steps=1, sample_every=0.5)
    fm.train(flow, method, data, steps=1, accumulate=0)
    fm.train(flow, method, data, steps=1, accumulate=1.5)
    fm.train(flow, method, data, steps=1, batch_size=2, accumulate=4)
    fm.train(flow, method, data, steps=1, optimizer="adam")
    fm.train(flow, method, data, steps=1, optimizer=lambda weights: None)
    fm.train(flow, method, data, steps=1, schedule=0.5)
    fm.train(flow, method, data, steps=1, schedule=None)
    fm.train(flow, method, data, steps=1, labels=True)
    fm.train(flow, method, data, steps=1, labels="yes")
    fm.train(flow, method, data, steps=1, out=3)
    fm.train(flow, method, data, steps=1, out="")
    fm.train(flow, method, data, steps=1, notes="my run")
    fm.train(flow, method, data, steps=1, trackers="tensorboard")
    fm.train(flow, fm.methods.lmd(flow), data, steps=1)
    fm.train(flow, fm.methods.lmd(fm.FlowMap(network)), data, steps=1)
    fm.train(flow, fm.methods.lmd(fm.FlowMap(Shared(network))), data, steps=1)
    fm.train(flow, fm.methods.progressive_distillation(flow), data, steps=1)
    fm.train(copy.deepcopy(flow).requires_grad_(False), method, data, steps=1)
    fm.training.WarmUpDecay(warmup=1.0)
    fm.training.WarmUpDecay(final=nan)
    fm.training.WarmUpDecay(warmup="0.1")
    fm.training.WarmUpStableDecay(warmup=0.2, decay=0.9)
    fm.training.WarmUpStableDecay(decay=0.0)
    fm.training.WarmUpStableDecay(decay=nan)
    fm.training.WarmUp(0)
    fm.training.WarmUp(nan)
    fm.load(None)
    fm.load(3)
    fm.load("")
    fm.load("runs/none", "network")
    fm.load("runs/none", ema="yes")
    """
)


class Shared(torch.nn.Module):
    """Another module around the weights of a network."""

    def __init__(self, network):
        super().__init__()
        self.inner = network

    def forward(self, x, s, t):
        return self.inner(x, s, t)


@in_one("expression", [*METHODS, *LOSSES, *TRAINING])
def test_methods_losses_and_training(expression):
    refuse(expression, Shared=Shared)


def test_frozen_weights_may_be_shared_with_the_teacher():
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Linear(4, 2))

    class Half(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.own = network, torch.nn.Linear(2, 2)

        def forward(self, x, s, t):
            return self.inner(x) + self.own(x)

    network.requires_grad_(False)
    teacher = fm.FlowMap(Shared(copy.deepcopy(fm.networks.MLP(2, 8, 1))))
    options = {"steps": 1, "batch_size": 8, "progress_bar": False}
    assert len(list(fm.train(fm.FlowMap(Half()), fm.methods.lmd(teacher), torch.randn(40, 2), **options))) == 1
    shared = fm.teacher(lambda x, t: network(x))
    shared.network.inner = network
    assert len(list(fm.train(fm.FlowMap(Half()), fm.methods.lmd(shared), torch.randn(40, 2), **options))) == 1


def test_a_copy_of_the_flow_map_may_be_its_teacher():
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    method = fm.methods.progressive_distillation(copy.deepcopy(flow), levels=2)
    options = {"steps": 2, "batch_size": 8, "progress_bar": False}
    assert len(list(fm.train(flow, method, torch.randn(40, 2), **options))) == 2


def test_a_teacher_that_writes_into_its_input_is_refused_in_training():
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    steps = fm.train(flow, fm.methods.lmd(Writes()), torch.randn(40, 2), steps=1, batch_size=8, progress_bar=False)
    with pytest.raises(ValueError, match="the teacher writes into its input x, which is used again"):
        next(steps)


def test_constant_data_have_no_scale_and_say_so():
    flat = fm.data.as_data(torch.ones(40, 2))
    with pytest.raises(ValueError, match="all values of tensor are equal .*their standard deviation is 0 in 4096 rows"):
        fm.recipes.flow_for(flat)
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    *_, state = fm.train(flow, fm.methods.imf(), flat, steps=3, batch_size=8, progress_bar=False)
    assert state.loss.value.isfinite()

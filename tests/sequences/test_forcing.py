"""Teacher forcing: rows, lengths, one pass of the backbone, ends, processes, and any method as the head's."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.sequences import TeacherForced, guided_contexts_loss, teacher_forced


def autoregressive(ends=False, classes=None, backbone=None):
    torch.manual_seed(0)
    head = fm.networks.Head(2, context=8, width=16, depth=2)
    torch.nn.init.normal_(head.output.weight, std=0.3)
    backbone = backbone or fm.networks.Recurrent(2, 8, classes=classes)
    return fm.Autoregressive(fm.FlowMap(head), backbone, ends).double()


X = torch.randn(4, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
TIMES = (0.8, 0.3)


def test_the_loss_is_the_mean_over_frames_with_their_contexts():
    model, noise = autoregressive(), torch.randn(3, 6, 4, 2, dtype=torch.float64)
    method = model.method(fm.methods.psd(), repeats=3)
    found = method.loss(model.flow, X, noise=noise, times=TIMES).terms["diffusion"]
    contexts = model.network.backbone(X)  # (B, T, 8)
    total = []
    for r, k, b in torch.cartesian_prod(torch.arange(3), torch.arange(6), torch.arange(4)):
        flow = model.flow.given(context=contexts[b, k][None])
        x0, eps = X[b, k][None], noise[r, k, b][None]
        total.append((flow.velocity(0.2 * x0 + 0.8 * eps, 0.8) - (eps - x0)).square().mean())
    assert len(found.residual) == 72
    torch.testing.assert_close(found.residual.square().mean(), torch.stack(total).mean())


def test_the_backbone_runs_once_and_gets_a_gradient():
    model = autoregressive(backbone=fm.networks.CausalTransformer(2, 8, 2, 2))
    calls = []
    model.network.backbone.register_forward_hook(lambda module, given, contexts: calls.append(len(contexts)))
    method = model.method(fm.methods.lsd(), repeats=4)
    loss = method.loss(model.flow, X.repeat(2, 1, 1))
    loss.value.backward()
    assert calls == [6, 2]  # each sequence once, three quarters of them in the term on the diagonal
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_cost_is_counted():
    head, backbone = fm.networks.Head(2, context=16, width=32, depth=3), fm.networks.CausalTransformer(2, 16, 2, 2)
    model = fm.Autoregressive(fm.FlowMap(head), backbone)
    x, frames = torch.randn(16, 8, 2), torch.randn(128, 2)

    def counted(run):
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    one = counted(lambda: head(frames, torch.rand(128), torch.rand(128), torch.randn(128, 16)))
    past = counted(lambda: backbone(x))
    for repeats in (1, 4):
        method = model.method(fm.methods.lsd(), repeats=repeats)
        found = counted(lambda method=method: method.loss(model.flow, x).value.backward())
        assert found / (3 * past + 4.0 * repeats * one) == pytest.approx(1.0, abs=0.06)


def test_frames_after_the_end_do_not_count():
    """A mask selects frames: other padding changes nothing, and each row of a short sequence is one of its frames."""
    model = autoregressive()
    valid = torch.arange(6) < torch.tensor([[6], [2], [4], [1]])
    noise, padded = torch.randn(1, 6, 4, 2, dtype=torch.float64), torch.where(valid[..., None], X, 100.0)
    method = model.method(fm.methods.lsd(), repeats=1)
    values = [
        method.loss(model.flow, x, {"valid": valid}, noise=noise, times=TIMES).value.item()
        for x in (torch.where(valid[..., None], X, 0.0), padded)
    ]
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    pair = method.draw(model.flow, padded, {"valid": valid}, times=TIMES)[0]
    assert pair.x0.abs().max() < 100 and "valid" not in pair.condition


def test_processes_and_parts_change_nothing():
    """The mean over two processes is the loss of the whole batch, with the same noise and times."""
    model, x = autoregressive(), torch.cat([X, X.flip(1)])
    method = model.method(fm.methods.lsd(), repeats=2, past_noise=0.3)
    values = []
    for every in (1, 2):
        parts = []
        for first in range(every):
            torch.manual_seed(5)
            rows = fm.Rows(first, every, 8)
            pairs = method.draw(model.flow, x[first::every], rows=rows)
            parts.append(method.measure(model.flow, pairs).value)
        values.append(sum(parts) / every)
    torch.testing.assert_close(*values)


def test_uneven_shares_are_refused():
    model = autoregressive()
    with pytest.raises(ValueError, match="share 3 sequences of the term diffusion unevenly"):
        model.method(fm.methods.lsd()).draw(model.flow, X[::2], rows=fm.Rows(0, 2, 4))


@pytest.mark.parametrize("name", ["meanflow", "imf", "psd", "esd", "lsd", "tvm", "shortcut", "ict", "sct", "imm"])
def test_any_method_trains_the_head(name):
    model = autoregressive()
    loss = model.loss(getattr(fm.methods, name)(), X, repeats=4, progress=0.5)
    loss.value.backward()
    assert loss.value.isfinite() and model.network.backbone.start.first.grad.abs().sum() > 0


def test_a_drifting_head_compares_the_draws_of_a_frame():
    model = autoregressive()
    loss = model.loss(fm.methods.drifting(group=4), X, repeats=4)
    loss.value.backward()
    assert loss.value.isfinite()
    with pytest.raises(ValueError, match="repeats=4 and group=repeats"):
        model.loss(fm.methods.drifting(group=4), X, repeats=8)


def test_ends_are_learned_from_the_mask():
    """Sequences end after their first negative frame; the model finds the ends, and generation stops there."""
    torch.manual_seed(0)
    model = fm.Autoregressive(
        fm.FlowMap(fm.networks.Head(1, context=16, width=32, depth=2)), fm.networks.Recurrent(1, 16), ends=True
    )
    x = torch.tensor([1.0, 1.0, -1.0, 0.0, 0.0])[None, :, None].expand(16, -1, -1)
    valid = torch.tensor([True, True, True, False, False]).expand(16, -1)
    method = model.method(fm.methods.flow_matching(), repeats=1, end=1.0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = method.loss(model.flow, x, {"valid": valid})
        loss.value.backward()
        optimizer.step()
    assert loss.terms["end"].value < 0.05
    made = model.generate(length=9, rows=3, seed=0, steps=8, step="euler")
    assert made.lengths.tolist() == [3, 3, 3] and made.frames.shape == (3, 3, 1)
    with pytest.raises(TypeError, match="make it with ends=True"):
        teacher_forced(fm.methods.psd(), end=1.0).loss(autoregressive().flow, X)


def test_a_prompt_is_continued_and_guidance_mixes_contexts():
    model, noise = autoregressive(classes=3), torch.randn(4, 6, 2, dtype=torch.float64)
    label = torch.tensor([0, 1, 2, 0])
    whole = model.generate(noise=noise, condition=label).frames
    rest = model.generate(whole[:, :2], noise=noise[:, 2:], condition=label).frames
    torch.testing.assert_close(rest, whole[:, 2:])
    torch.testing.assert_close(fm.sample(model.flow.given(prompt=whole[:, :2], label=label), noise[:, 2:]), rest)
    null = {"label": 3}
    same = model.generate(noise=noise, condition=label, guidance=1.0, null=null).frames
    plain = model.generate(noise=noise, condition=label, guidance=1e-12, null=null).frames
    torch.testing.assert_close(same, whole)
    torch.testing.assert_close(plain, model.generate(noise=noise, condition=torch.full((4,), 3)).frames)
    assert not torch.allclose(model.generate(noise=noise, condition=label, guidance=2.0, null=null).frames, whole)
    with pytest.raises(ValueError, match="null="):
        model.generate(noise=noise, condition=label, guidance=2.0)
    student = fm.networks.Recurrent(2, 8, classes=3).double()
    student.load_state_dict(model.network.backbone.state_dict())
    assert guided_contexts_loss(student, model.network.backbone, X, 1.0, null, label) == 0
    assert guided_contexts_loss(student, model.network.backbone, X, 2.0, null, label) > 0


def test_inversion_goes_on_from_the_data():
    """Each frame is inverted given the data before it, so small steps there and back again give the data."""
    model = autoregressive()
    noise = fm.invert(model.flow, X, 128, step="heun")
    back = fm.sample(model.flow, noise, 128, step="heun")
    torch.testing.assert_close(back, X, atol=1e-3, rtol=0)
    first, x = fm.invert(model.flow, X[:, :1], 128, step="heun"), model.network.backbone(X)
    alone = model.flow.given(context=x[:, 3])
    torch.testing.assert_close(noise[:, :1], first)
    torch.testing.assert_close(noise[:, 3], fm.invert(alone, X[:, 3], 128, step="heun"))
    with pytest.raises(ValueError, match="these times lead from 1 to 0.5: end at 0"):
        fm.sample(model.flow, noise, times=[1.0, 0.5])


def test_conditions_are_prepared_once():
    """A network with `prepare` encodes a text once a loss, with gradient, and once for all steps of a sampler."""

    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.head, self.calls = torch.nn.Linear(3, 8), fm.networks.Head(2, 8, 16, 1), 0

        def prepare(self, context=None, text=None):
            if context is None:
                self.calls += 1
                context = self.encoder(text)
            return {"context": context}

        def forward(self, x, s, t, **condition):
            return self.head(x, s, t, **self.prepare(**condition))

    network = Told()
    torch.nn.init.normal_(network.head.output.weight)
    flow, text = fm.FlowMap(network), torch.randn(8, 3)
    method = fm.methods.lsd()
    loss = method.loss(flow, torch.randn(8, 2), {"text": text})
    loss.value.backward()
    assert network.calls == len(method.terms) and network.encoder.weight.grad.abs().sum() > 0
    network.calls = 0
    fm.sample(flow, torch.randn(8, 2), 4, condition={"text": text})
    assert network.calls == 1
    raw, ready = flow.given(text=text), flow.given(text=text).prepared()
    x = torch.randn(8, 2)
    torch.testing.assert_close(raw(x, 1.0, 0.5), ready(x, 1.0, 0.5))
    frozen = fm.velocity.sources.constant(ready)
    assert not frozen.velocity(x, 0.5).requires_grad and ready.velocity(x, 0.5).requires_grad


def test_wrong_input():
    model = autoregressive()
    with pytest.raises(ValueError, match="fm.sequences.teacher_forced"):
        fm.methods.lsd().loss(model.flow, X[:, 0])
    with pytest.raises(ValueError, match=r"sequences \(B, T, C\), got \(4, 2\)"):
        model.loss(fm.methods.lsd(), X[:, 0])
    with pytest.raises(ValueError, match=r"noise \(B, T, C\)"):
        fm.sample(model.flow, torch.randn(4, 2).double())
    with pytest.raises(ValueError, match="a row for each of 4"):
        fm.sample(model.flow, X, condition={"prompt": X[:2]})
    with pytest.raises(ValueError, match="the prompt of 4 sequences"):
        fm.sample(model.flow, X, condition={"prompt": X[..., :1]})
    guided = fm.guidance.classifier_free(model.flow, 2.0, null={"label": 3})
    with pytest.raises(TypeError, match="a ClassifierFree around one: to guide contexts"):
        fm.sample(guided, X, 2, step="euler")
    with pytest.raises(ValueError, match="no frame"):
        model.loss(fm.methods.lsd(), X, mask=torch.zeros(4, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match="gaps"):
        model.loss(fm.methods.lsd(), X, mask=torch.tensor([True, False] * 3).expand(4, 6))
    with pytest.raises(TypeError, match="takes a method"):
        TeacherForced(fm.methods.lsd)
    with pytest.raises(ValueError, match="teacher-forced already"):
        teacher_forced(teacher_forced(fm.methods.lsd()))
    with pytest.raises(ValueError, match="length="):
        fm.Autoregressive(fm.FlowMap(fm.networks.Head(2, 8)), fm.networks.Recurrent(2, 8)).generate()

"""A head on a backbone in use: guided teachers, LoRA, paths with other noise, and export frame by frame."""

import pytest
import torch

import flowmaps as fm
from flowmaps import export
from flowmaps.experiments.guide import Guide
from flowmaps.export.samplers import in_turn
from flowmaps.sequences import guided_contexts, teacher_forced, with_contexts

CLASSES, NULL = 3, {"label": 3}
X = torch.randn(24, 5, 2, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(24) % CLASSES
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8}


def autoregressive(seed=0, path=fm.path.linear, ends=False, backbone=None):
    torch.manual_seed(seed)
    head = fm.networks.Head(2, context=8, width=16, depth=2)
    torch.nn.init.normal_(head.output.weight, std=0.3)
    backbone = backbone or fm.networks.CausalTransformer(2, 8, 2, 2, classes=CLASSES)
    return fm.Autoregressive(fm.FlowMap(head, path=path), backbone, ends)


def losses(student, teacher, name):
    torch.manual_seed(3)
    method = getattr(fm.methods, name)(teacher=teacher)
    return student.loss(method, X, condition=LABELS, repeats=2).value


@pytest.mark.parametrize("name", ["splitmeanflow", "ayf_emd", "ayf_lmd", "facm"])
def test_a_teacher_with_guided_contexts(name):
    """Scale 1 is the plain teacher; scale 3 is another teacher."""
    student, teacher = autoregressive(), autoregressive(7).flow
    plain, same, other = (
        losses(student, one, name)
        for one in (teacher, guided_contexts(teacher, 1.0, NULL), guided_contexts(teacher, 3.0, NULL))
    )
    torch.testing.assert_close(same, plain, rtol=1e-5, atol=1e-6)
    assert not torch.isclose(other, plain, rtol=1e-3)


def test_guided_contexts_are_mixtures_in_training_and_in_sampling():
    model = autoregressive()
    guided = guided_contexts(model.flow, 2.0, NULL)
    told, plain = (
        with_contexts(model.flow.given(label=label), X)[0].condition["context"]
        for label in (LABELS, torch.full_like(LABELS, CLASSES))
    )
    bound, rows = with_contexts(guided.given(label=LABELS), X)
    torch.testing.assert_close(bound.condition["context"], plain + 2 * (told - plain))
    assert rows.shape == (120, 2) and not torch.allclose(told, plain)
    noise = torch.randn(3, 5, 2)
    made = model.generate(noise=noise, condition=LABELS[:3], guidance=2.0, null=NULL).frames
    torch.testing.assert_close(fm.sample(guided, noise, condition=LABELS[:3]), made)
    torch.testing.assert_close(fm.Autoregressive.of(guided).generate(noise=noise, condition=LABELS[:3]).frames, made)


def test_a_student_of_a_guided_teacher_knows_its_guidance():
    student, guided = autoregressive(), guided_contexts(autoregressive(7).flow, 2.0, NULL)
    method, data = student.method(fm.methods.splitmeanflow(guided)), fm.data.as_data((X, LABELS), kind="vectors")
    trained = fm.fit(student.flow, method, fm.data.by_channel(data), steps=2, **QUIET).ema
    assert trained.guidance.scale == 2.0 and trained.guidance.null == NULL
    with pytest.raises(ValueError, match=r"guided already \(GuidedContexts, scale 2"):
        fm.Autoregressive.of(trained).generate(length=2, condition=LABELS[:2], guidance=2.0, null=NULL)


def test_velocities_of_a_backbone_are_not_guided():
    teacher = fm.guidance.classifier_free(autoregressive().flow, 2.0, null=NULL)
    with pytest.raises(ValueError, match=r"belongs to the backbone .* fm.sequences.guided_contexts"):
        losses(autoregressive(), teacher, "splitmeanflow")
    with pytest.raises(ValueError, match="null condition of the backbone"):
        guided_contexts(autoregressive().flow, 2.0, {})
    with pytest.raises(TypeError, match="null conditions by name"):
        guided_contexts(autoregressive().flow, 2.0, [3])
    with pytest.raises(TypeError, match="has no backbone"):
        guided_contexts(fm.FlowMap(fm.networks.MLP(2, 8, 1)), 2.0, NULL)
    with pytest.raises(ValueError, match="one scale for all times"):
        Guide(1.0, 3.0, null=NULL, taught=True).teacher(autoregressive().flow)


def test_a_run_is_distilled_into_a_student_with_guidance(tmp_path):
    data = fm.data.as_data((X, LABELS), kind="vectors", standardise=False)
    settings = {"width": 8, "depth": 1, "steps": 2, "progress_bar": False, "batch_size": 8}
    sequences = settings | {"network": "autoregressive"}
    teacher = fm.experiments.train(data, label_dropout=0.5, out=tmp_path / "teacher", **sequences)
    taught = {"method": "splitmeanflow", "teacher": teacher.folder, "guidance": 2.0, "out": tmp_path / "student"}
    with pytest.raises(ValueError, match="the teacher is a head on a backbone, so the student needs one: network="):
        fm.experiments.train(data, **taught, **settings)
    student = fm.experiments.train(data, **taught, **sequences)
    assert fm.load(student.folder).guidance.scale == 2.0
    assert fm.experiments.sample(student, n=2, device="cpu").shape == (2, 5, 2)


def test_noise_has_the_scale_of_the_path():
    model, noise = autoregressive(path=fm.path.VarianceExploding(5.0)), torch.randn(2, 4, 2)
    made = model.generate(noise=noise, condition=LABELS[:2]).frames
    torch.testing.assert_close(made, fm.sample(model.flow, 5.0 * noise, condition=LABELS[:2]))
    assert not torch.allclose(made, fm.sample(model.flow, noise, condition=LABELS[:2]), atol=0.1)


def test_lora_trains_the_adapter_and_makes_sequences():
    from flowmaps.integrations.peft import lora, merged

    model, data = autoregressive(ends=True), fm.data.as_data((X, LABELS), kind="vectors", standardise=False)
    flow = lora(model.flow, 2, targets=["qkv", "inner", "outer"])
    noise, label = torch.randn(3, 5, 2), LABELS[:3]
    expected = model.generate(noise=noise, condition=label)
    found = fm.Autoregressive.of(flow).generate(noise=noise, condition=label)
    assert torch.equal(found.frames, expected.frames) and torch.equal(found.lengths, expected.lengths)
    kept = {name: weight.clone() for name, weight in flow.named_parameters() if not weight.requires_grad}
    last = fm.fit(flow, teacher_forced(fm.methods.lsd(), 2, end=0.1), data, steps=3, lr=0.1, ema=0.5, **QUIET)
    trained = dict(last.flow.named_parameters())
    assert kept and all(torch.equal(trained[name], weight) for name, weight in kept.items())
    changed = fm.sample(last.ema, noise, condition=label)
    assert not torch.allclose(changed, fm.sample(model.flow, noise, condition=label), atol=1e-3)
    torch.testing.assert_close(fm.sample(merged(last.ema), noise, condition=label), changed, rtol=1e-4, atol=1e-4)


def test_a_head_on_a_backbone_becomes_no_pipeline(tmp_path):
    with pytest.raises(ValueError, match="becomes no pipeline folder: fm.export.to_onnx and fm.export.to_program"):
        fm.experiments.export(autoregressive().flow, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["transformer", "recurrent"])
def test_the_next_frame_becomes_a_program_and_onnx(backbone, tmp_path):
    """Frame by frame they make the sequences of `generate`, with units of the data and predicted ends."""
    own = fm.networks.Recurrent(2, 8, classes=CLASSES) if backbone == "recurrent" else None
    model = autoregressive(ends=True, backbone=own, path=fm.path.VarianceExploding(2.0)).eval()
    model.network.end.weight.data.mul_(4)
    model.network.end.bias.data.fill_(-2.0)
    model.flow.units = fm.Units((1.0, 2.0), (2.0, 0.5), axis=1)
    noise, label = torch.randn(4, 6, 2), torch.arange(4) % CLASSES
    export.to_program(model.flow, tmp_path / "next.pt2", noise, {"label": label})
    program = torch.export.load(tmp_path / "next.pt2").module()
    noise, label = torch.randn(7, 6, 2), torch.arange(7) % CLASSES
    expected, found = model.generate(noise=noise, condition=label), in_turn(program, noise, label)
    count = expected.frames.shape[1]
    assert torch.equal(found.lengths.clamp(max=count), expected.lengths) and expected.lengths.unique().numel() > 1
    shown = (torch.arange(count) < expected.lengths[:, None])[..., None]
    torch.testing.assert_close(found.frames[:, :count] * shown, expected.frames * shown, rtol=1e-5, atol=1e-5)
    pytest.importorskip("onnxruntime")
    assert export.to_onnx(model.flow, tmp_path / "next.onnx", noise, {"label": label}).exists()

"""Wrong inputs of evaluation: distances, measures, classifiers, errors, tables."""

import functools
import warnings

import torch

import flowmaps as fm
from tests.in_one import in_one
from tests.wrong_inputs.support import cases, refuse

EVALUATION = cases(
    """
    energy_distance(x, x[:1])
    energy_distance(x, torch.randn(4, 3))
    energy_distance(x, x.numpy())
    energy_distance(x.tolist(), x)
    energy_distance(x, None)
    energy_distance(x, x.to(torch.complex64))
    energy_distance(x, torch.randn(4))
    energy_distance(x, torch.tensor(1.0))
    energy_distance(x, meta)
    energy_distance(x, x * nan)
    energy_distance(x / 0, x)
    kernel_distance(x, x * nan)
    kernel_distance(x * nan, x)
    kernel_distance(x, x.to_sparse())
    sliced_energy_distance(x, x * nan)
    sliced_energy_distance(x, x, directions=0)
    sliced_energy_distance(x, x, directions=1.5)
    sliced_energy_distance(x, x, seed=-1)
    frechet_distance(x * nan, x)
    frechet_distance(x, x[:1])
    nearest(x, x[:0])
    nearest(x * nan, x)
    nearest(x, "x")
    histogram_kl(x * nan, gaussian.log_prob, bins=4, half_width=1.0)
    histogram_kl(torch.randn(4, 3), gaussian.log_prob, bins=4, half_width=1.0)
    histogram_kl(x[:0], gaussian.log_prob, bins=4, half_width=1.0)
    histogram_kl(x, gaussian.log_prob, bins=0, half_width=1.0)
    histogram_kl(x, gaussian.log_prob, bins=4, half_width=0)
    histogram_kl(x, gaussian.log_prob, bins=4, half_width=nan)
    histogram_kl(x, gaussian.log_prob, bins=4, half_width=1.0, resamples=1)
    histogram_kl(x, None, bins=4, half_width=1.0)
    diversity(x * nan, label)
    diversity(x, label[:2])
    diversity(x, label.float())
    diversity(x[:1], label[:1])
    diversity(x.tolist(), label)
    accuracy(classifier(), torch.randn(4, 1, 8, 8) * nan, label)
    accuracy(classifier(), torch.randn(4, 1, 8, 8), label[:2])
    accuracy(classifier(), torch.randn(4, 1, 8, 8), label.float())
    accuracy(classifier(), torch.randn(4, 1, 8, 8)[:0], label[:0])
    accuracy(classifier(), x, label)
    accuracy(None, torch.randn(4, 1, 8, 8), label)
    to_levels(x, 1)
    to_levels(x, 2.5)
    to_levels(whole, 4)
    Classifier((1, 8), 3)
    Classifier((1, 8, 8), 0)
    Classifier((1, 8, 8), 2.5)
    Classifier((1, 8, 8), 3, width=0)
    Classifier((1, 8, 8), 3, size=0)
    train_classifier(data)
    train_classifier(None)
    train_classifier(digits, steps=-1)
    train_classifier(digits, steps=1.5)
    train_classifier(digits, batch_size=0)
    train_classifier(digits, seed=-1)
    Features("pixels", None)
    Features("pixels", lambda x: x)([1.0])
    Features("pixels", lambda x: x)(x, batch_size=0)
    classifier_features(None)
    map_error(flow, None)
    map_error(None, gaussian)
    map_error(flow, flow)
    map_error(flow, gaussian, n=0)
    map_error(flow, gaussian, n=1.5)
    map_error(flow, gaussian, seed=-1)
    map_error(flow, fm.exact.Gaussian([0.0, 0.0, 0.0]))
    consistency_residuals(flow, whole)
    consistency_residuals(flow, x * nan)
    consistency_residuals(flow, x.tolist())
    consistency_residuals(flow, x, grid=0)
    consistency_residuals(flow, x, grid=1.5)
    consistency_residuals(flow, x, grid=torch.tensor([0.0, nan]))
    consistency_residuals(flow, x, grid=torch.tensor([0.0, 2.0]))
    consistency_residuals(flow, x, grid=[0.0, 1.0])
    consistency_residuals(flow, x, rule="lagrangian")
    consistency_residuals(flow, x, teacher=network)
    consistency_residuals(flow, x, teacher=writes)
    consistency_residuals(flow, x, condition=label)
    consistency_residuals(classes, x, condition=label[:2])
    consistency_residuals(network, x)
    consistency_residuals(flow, x, seed=-1)
    evaluate(None, data)
    evaluate(network, data)
    evaluate(flow, None)
    evaluate(flow, data, jumps=(0,))
    evaluate(flow, data, jumps=(1.5,))
    evaluate(flow, data, jumps=1)
    evaluate(flow, data, ode_steps=(True,))
    evaluate(flow, data, ode_steps="16")
    evaluate(flow, data, n=0)
    evaluate(flow, data, n=1.5)
    evaluate(flow, data, n=1)
    evaluate(flow, data, draws=0)
    evaluate(flow, data, seed=-1)
    evaluate(flow, data, seed=None)
    evaluate(flow, data, batch_size=0)
    evaluate(flow, data, batch_size=2.5)
    evaluate(flow, data, labels=True)
    evaluate(flow, data, labels="yes")
    evaluate(flow, digits, features=lambda x: x.flatten(1))
    evaluate(flow, digits)
    evaluate(images, data)
    by_scale([], data, classifier())
    by_scale([], digits, classifier(), n=0)
    by_scale([], digits, classifier(), batch_size=1.5)
    by_scale([], digits, classifier(), seed=-1)
    by_scale([], digits, None)
    """
)


@functools.cache
def classifier():
    """A small classifier of three classes."""
    return fm.evaluate.Classifier((1, 8, 8), 3)


@in_one("expression", EVALUATION)
def test_evaluation(expression):
    public = {name: getattr(fm.evaluate, name) for name in fm.evaluate.__all__}
    refuse(expression, **public, classifier=classifier)


def test_one_jump_that_is_not_finite_leaves_the_other_rows_of_a_table():
    """Measures of a sampler that diverges are not known; the table says so, and has no number for them."""
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1))
    torch.nn.init.constant_(flow.network.output.bias, torch.inf)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fm.evaluate.evaluate(flow, fm.data.load("checkerboard"), n=64, draws=2, jumps=(1,), ode_steps=(2,))
    assert [row["distance"] for row in found["rows"]] == [None, None] and found["floor"] is not None
    assert sum("hold NaN or infinite values" in str(one.message) for one in said) == 2

"""Wrong inputs of experiments, recipes, plans and pictures. Nothing is trained, and nothing is written."""

import pytest
import torch

import flowmaps as fm
from flowmaps import experiments
from tests.wrong_inputs.support import cases, refuse

TRAINING = cases(
    """
    train("checkerbord", out=out)
    train(None, out=out)
    train(3, out=out)
    train(whole, out=out)
    train("gaussian", method="imff", out=out)
    train("gaussian", method=3, out=out)
    train("gaussian", method=None, recipe="none", out=out)
    train("gaussian", method_args={"diagonl": 0.5}, out=out)
    train("gaussian", method_args={"diagonal": nan}, out=out)
    train("gaussian", method_args="diagonal=0.5", out=out)
    train("gaussian", steps=0, out=out)
    train("gaussian", steps=1.5, out=out)
    train("gaussian", steps=True, out=out)
    train("gaussian", steps="10", out=out)
    train("gaussian", seconds=nan, out=out)
    train("gaussian", steps=1, seconds=1.0, out=out)
    train("gaussian", network="transformer", out=out)
    train("gaussian", network="unet", out=out)
    train("gaussian", network=3, out=out)
    train("gaussian", width=0, out=out)
    train("gaussian", width=1.5, out=out)
    train("gaussian", width="8", out=out)
    train("gaussian", depth=-1, out=out)
    train("gaussian", depth=True, out=out)
    train("gaussian", output="velocity", out=out)
    train("gaussian", labels="yes", out=out)
    train("gaussian", data_args={"size": 3}, out=out)
    train("gaussian", data_args=3, out=out)
    train(rows, data_args={"size": 3}, out=out)
    train("gaussian", teacher=3, method="lmd", out=out)
    train("gaussian", teacher=gaussian, method="imf", out=out)
    train("gaussian", method="lmd", out=out)
    train("gaussian", guidance=2.0, out=out)
    train("digits", guidance=nan, out=out)
    train("digits", guidance=-1.0, out=out)
    train("digits", guidance="2", out=out)
    train("digits", guidance=(1, 2, 3), out=out)
    train("digits", guidance=(8, 1), out=out)
    train("digits", guidance=True, out=out)
    train("digits", guidance=2.0, guidance_interval=(0.8, 0.2), out=out)
    train("digits", guidance=2.0, guidance_interval=0.5, out=out)
    train("digits", guidance=2.0, guidance_interval=(0.2, nan), out=out)
    train("digits", guidance=2.0, guidance_interval="0.2:0.8", out=out)
    train("digits", label_dropout=1.5, out=out)
    train("digits", label_dropout=nan, out=out)
    train("digits", label_dropout="0.1", out=out)
    train("gaussian", reflow=3, out=out)
    train("gaussian", reflow=flow, couplings=0, out=out)
    train("gaussian", reflow=flow, couplings=1.5, out=out)
    train("gaussian", start=3, out=out)
    train("gaussian", out=3)
    train("gaussian", seed=-1, out=out)
    train("gaussian", seed=2**64, out=out)
    train("gaussian", seed=1.5, out=out)
    train("gaussian", lr=nan, out=out)
    train("gaussian", batch_size=0, out=out)
    train("gaussian", batchsize=3, out=out)
    train(torch.ones(40, 2), out=out)
    compare("gaussian", ["imff"], out=out)
    compare("gaussian", [], out=out)
    compare("gaussian", None, out=out)
    compare("gaussian", 3, out=out)
    compare("gaussian", ["imf"], steps=0, out=out)
    compare("gaussian", ["imf"], steps=1.5, out=out)
    compare("gaussian", ["imf"], seconds=nan, out=out)
    compare("gaussian", ["imf"], width=0, out=out)
    compare("gaussian", ["imf"], couplings=0, out=out)
    compare("gaussian", ["imf"], batch_size=1.5, out=out)
    compare("gaussian", ["imf"], lr=nan, out=out)
    compare("gaussian", ["imf"], seed=-1, out=out)
    compare("gaussian", ["imf"], out=3)
    compare(None, ["imf"], out=out)
    distill(None, out=out)
    distill(3, out=out)
    """
)

RUNS = cases(
    """
    sample(None)
    sample(3)
    sample("")
    sample(run, n=0)
    sample(run, n=-1)
    sample(run, n=1.5)
    sample(run, n=True)
    sample(run, n="64")
    sample(run, n=10**15)
    sample(run, steps=0)
    sample(run, steps=1.5)
    sample(run, steps=True)
    sample(run, step="jmp")
    sample(run, step=3)
    sample(run, step=None)
    sample(run, label=3)
    sample(run, seed=-1)
    sample(run, seed=2**64)
    sample(run, seed=1.5)
    sample(run, ema="yes")
    sample(run, out="samples.gif")
    sample(run, out=3)
    sample(run, prompt="a cat")
    sample(run, guidance=2.0)
    sample(run, guidance_interval=(0.2, 0.8))
    sample(digits_run, label=10)
    sample(digits_run, label=-1)
    sample(digits_run, label=1.5)
    sample(digits_run, label=True)
    sample(digits_run, guidance=nan)
    sample(digits_run, guidance=inf)
    sample(digits_run, guidance="2")
    sample(digits_run, guidance=2.0, guidance_interval=(0.2,))
    steer(None, reward="label:7")
    steer(run)
    steer(run, reward=3)
    steer(run, reward="label:7")
    steer(run, reward=lambda x0: x0)
    steer(run, reward=lambda x0: x0[:, 0] * nan)
    steer(run, reward=lambda x0: x0[:, 0].tolist())
    steer(run, reward=lambda x0: x0[:, 0], classifier="a.safetensors")
    steer(run, reward=lambda x0: x0[:, 0], noise=0.1)
    steer(run, reward=lambda x0: x0[:, 0], method="fmt")
    steer(run, reward=lambda x0: x0[:, 0], method=3)
    steer(run, reward=lambda x0: x0[:, 0], method="dps")
    steer(run, reward=lambda x0: x0[:, 0], steps=0)
    steer(run, reward=lambda x0: x0[:, 0], steps=1.5)
    steer(run, reward=lambda x0: x0[:, 0], particles=1)
    steer(run, reward=lambda x0: x0[:, 0], particles=True)
    steer(run, reward=lambda x0: x0[:, 0], particles=8, n=9)
    steer(run, reward=lambda x0: x0[:, 0], particles=10**15)
    steer(run, reward=lambda x0: x0[:, 0], n=0)
    steer(run, reward=lambda x0: x0[:, 0], out="samples.gif")
    steer(run, reward=lambda x0: x0[:, 0], out=3)
    steer(run, reward=lambda x0: x0[:, 0], seed=-1)
    steer(run, reward=lambda x0: x0[:, 0], seed=1.5)
    steer(run, reward=lambda x0: x0[:, 0], ema="yes")
    steer(run, reward=lambda x0: x0[:, 0], label=3)
    steer(run, reward=lambda x0: x0[:, 0], prompt="a cat")
    steer(run, reward=lambda x0: x0[:, 0], prompt=["a", "b"])
    steer(run, reward=lambda x0: x0[:, 0], guidance=2.0)
    steer(run, reward=lambda x0: x0[:, 0], device="gpu")
    steer(run, reward=lambda x0: x0[:, 0], data=whole)
    steer(run, deblur=(1.0, torch.zeros(1, 8, 8)))
    steer(digits_run, reward="label:7", deblur=(1.0, "held-out:0"))
    steer(digits_run, reward="label:10")
    steer(digits_run, reward="seven")
    steer(digits_run, reward="label:7", classifier=3)
    steer(digits_run, reward="label:7", label=10)
    steer(digits_run, reward="label:7", method="fmtt")
    steer(digits_run, reward="label:7", guidance=nan)
    steer(digits_run, deblur=1.0)
    steer(digits_run, deblur=(1.0,))
    steer(digits_run, deblur=(0.0, "held-out:0"))
    steer(digits_run, deblur=("1", "held-out:0"))
    steer(digits_run, deblur=(1.0, 3))
    steer(digits_run, deblur=(1.0, ""))
    steer(digits_run, deblur=(1.0, "held-out:"))
    steer(digits_run, deblur=(1.0, "held-out:-1"))
    steer(digits_run, deblur=(1.0, torch.zeros(1, 4, 4)))
    steer(digits_run, deblur=(1.0, torch.zeros(3, 8, 8)))
    steer(digits_run, deblur=(1.0, torch.zeros(8, 8)))
    steer(digits_run, deblur=(1.0, torch.full((1, 8, 8), nan)))
    steer(digits_run, deblur=(1.0, torch.zeros(1, 8, 8).int()))
    steer(digits_run, deblur=(1.0, "held-out:0"), noise=0.0)
    steer(digits_run, deblur=(1.0, "held-out:0"), noise=nan)
    steer(digits_run, downsample=(3, "held-out:0"))
    steer(digits_run, downsample=(2.0, "held-out:0"))
    steer(digits_run, inpaint=(torch.zeros(8, 8), "held-out:0"))
    steer(digits_run, inpaint=(torch.ones(8, 8), "held-out:0"))
    steer(digits_run, inpaint=(torch.rand(8, 8), "held-out:0"))
    steer(digits_run, inpaint=(torch.eye(4), "held-out:0"))
    steer(digits_run, inpaint=(3, "held-out:0"))
    steer(digits_run, inpaint=(torch.eye(8), "held-out:0"), method="tilt", particles=8)
    evaluate(None)
    evaluate(3)
    evaluate(run, n=0)
    evaluate(run, jumps=(0,))
    evaluate(run, seed=-1)
    evaluate(run, device="gpu")
    evaluate(run, device=3)
    evaluate(run, guidance=(2.0,))
    evaluate(run, reference=digits_run)
    evaluate(run, data=whole)
    evaluate(run, samples=3)
    evaluate(digits_run, guidance=(nan,), features=pixels)
    evaluate(digits_run, guidance=2.0, features=pixels)
    report(None)
    report(run, n=0)
    export(None, out)
    export(run, 3)
    export(run, out, push_to_hub="no-slash")
    """
)

PLANS = cases(
    """
    plan("none")
    plan(None)
    plan("imagenet256-dit-b4-meanflow", gpus=0)
    plan("imagenet256-dit-b4-meanflow", gpus=1.5)
    plan("imagenet256-dit-b4-meanflow", accumulate=0)
    plan("imagenet256-dit-b4-meanflow", accumulate=True)
    plan("imagenet256-dit-b4-meanflow", batch_size=0)
    plan("imagenet256-dit-b4-meanflow", batch_size=2.5)
    plan("imagenet256-dit-b4-meanflow", steps=0)
    plan("imagenet256-dit-b4-meanflow", precision="fp8")
    plan("imagenet256-dit-b4-meanflow", method="none")
    plan("imagenet256-dit-b4-meanflow", method_args={"none": 1})
    explain("none")
    explain(None)
    explain(3)
    explain("imf", method_args={"diagonal": nan})
    explain("imf", method_args={"none": 1})
    fm.recipes.flow_for(None)
    fm.recipes.flow_for(rows)
    fm.recipes.flow_for(data, width=0)
    fm.recipes.flow_for(data, depth=1.5)
    fm.recipes.flow_for(data, classes=-1)
    fm.recipes.flow_for(data, only_target=2.0)
    fm.visualise.grid(x)
    fm.visualise.grid(torch.rand(3, 2, 8, 8))
    fm.visualise.grid(None)
    fm.visualise.points(torch.randn(4, 3))
    fm.visualise.points(None)
    fm.visualise.loss_curves([])
    fm.visualise.mosaic(torch.rand(3, 1, 8, 8), columns=0)
    fm.visualise.mosaic(torch.rand(3, 1, 8, 8), gap=-1)
    fm.visualise.heat_map(torch.rand(3, 3), [0.0, 0.5])
    fm.perceptual.lpips("resnet")
    fm.derivative.finite_difference(0)
    fm.derivative.finite_difference(nan)
    fm.derivative.stop(3)
    fm.derivative.jvp(lambda x: x, (whole,), (1,))
    fm.derivative.jvp(lambda x: x, (x,), (1, 2))
    """
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run on points and one on digits."""
    quiet = {"steps": 1, "width": 8, "depth": 1, "batch_size": 8, "progress_bar": False, "trackers": ()}
    folder = tmp_path_factory.mktemp("runs")
    made = {
        "run": experiments.train("gaussian", out=folder / "run", sample_every=0, **quiet).folder,
        "digits_run": experiments.train(
            "digits", method="flow_matching", label_dropout=0.2, out=folder / "digits", sample_every=0, **quiet
        ).folder,
    }
    return made | {"pixels": fm.evaluate.Features("pixels", lambda x: x.flatten(1)[:, 20:24])}


def short(experiment):
    """An experiment that takes a single step, so that a wrong input that is accepted ends soon."""

    def run(*args, **options):
        length = {} if options.keys() & {"steps", "seconds"} else {"steps": 1}
        return experiment(*args, **({"progress_bar": False} | length | options))

    return run


PUBLIC = {
    name: getattr(experiments, name) for name in ("plan", "explain", "sample", "steer", "evaluate", "report", "export")
}
PUBLIC |= {name: short(getattr(experiments, name)) for name in ("train", "compare", "distill")}


@pytest.mark.parametrize("expression", TRAINING)
def test_training(expression, tmp_path):
    refuse(expression, **PUBLIC, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("expression", RUNS)
def test_runs(expression, runs, tmp_path):
    refuse(expression, **PUBLIC, **runs, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("expression", PLANS)
def test_plans_and_pictures(expression):
    refuse(expression, **PUBLIC)


def test_a_reference_device_that_is_missing_is_said(runs):
    if not torch.cuda.is_available():
        refuse('evaluate(run, device="cuda")', **PUBLIC, **runs)

"""Teachers and students of diffusers are steered, in latents too, with conditions and guidance."""

import pytest
import torch

import flowmaps as fm
from flowmaps.integrations.diffusers import teacher
from flowmaps.integrations.diffusers.latents import Latents
from tests.integrations import tiny

R, S, L = fm.rewards, fm.steering, fm.look


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.dit(tmp_path_factory.mktemp("pipeline"))


def seen(folder):
    """The measurement of a corner of decoded images, for both rows."""
    kept = torch.zeros(16, 16)
    kept[:2, :2] = 1
    return R.decoded(Latents(folder).decode, R.Likelihood(R.mask(kept), torch.full((3, 4), 0.3), 0.2))


@pytest.mark.slow
def test_a_measurement_of_decoded_latents_steers_a_guided_teacher(folder):
    """The residual falls, and no weight gets a gradient."""
    flow, reward = teacher(folder), seen(folder)
    guided = fm.guidance.classifier_free(flow, 2.0, null={"label": 10})
    noise, label = torch.randn(2, 4, 8, 8), torch.tensor([3, 7])
    plain = fm.sample(guided, noise, 6, step="euler", condition=label)
    steered = fm.sample(S.tilt(guided, S.value(reward), scale=0.2), noise, 6, step="euler", condition=label)
    assert (reward(steered) > reward(plain)).all() and steered.isfinite().all()
    wide = fm.sample(S.tilt(guided, S.value(reward, L.widened(0.5))), noise, 6, step="euler", condition=label)
    assert reward(wide).mean() > reward(plain).mean()
    moments = S.tilt(flow.given(label=label), S.value(reward, L.moments(stopped=False))).velocity(noise, 0.5)
    assert moments.isfinite().all()  # second derivatives of attention, in the network and in the decoder
    assert all(weight.grad is None for weight in flow.parameters())


def test_a_student_takes_particles_and_corrected_jumps(folder):
    """A flow map with a pipeline's network: particles by jumps, and the reward of a jump."""
    flow, reward = fm.student(teacher(folder)), seen(folder)
    noise, label = torch.randn(4, 4, 8, 8), torch.tensor([3, 3, 7, 7])
    out = S.particles(
        flow, noise, 3, reward=reward, value=S.value(reward, L.jump(), floor=-1e3), groups=2, condition=label, seed=0
    )
    assert out.x.shape == noise.shape and out.log_z.shape == (2,) and out.log_z.isfinite().all()
    plain = fm.sample(flow, noise, 3, condition=label)
    steered = fm.sample(flow, noise, 3, step=S.fmrg(reward, relative=1.0), condition=label)
    assert reward(steered).mean() > reward(plain).mean()

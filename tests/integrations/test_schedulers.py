"""Schedulers of diffusers: Euler's method on their grid is their own sampler, state by state; solvers of higher order
approach the same end; what cannot be read is refused.
"""

import diffusers
import pytest
import torch

import flowmaps as fm
from flowmaps import path as paths
from flowmaps.integrations import edm
from flowmaps.integrations.diffusers.schedulers import EDM, FLOW, STEPS, grid, noise_scale, reading
from flowmaps.serialise import build, describe

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, from diffusers

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}
KARRAS = {"use_karras_sigmas": True}
SVD = {
    "timestep_type": "continuous",
    "prediction_type": "v_prediction",
    "sigma_min": 0.002,
    "sigma_max": 700.0,
} | KARRAS
FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
DDIM = {"clip_sample": False}
TRAINED = {"trained_betas": torch.linspace(0.01, 0.2, 40).tolist(), "num_train_timesteps": 40}
V = {"prediction_type": "v_prediction"}
NOISE = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
WEIGHTS = torch.randn(7, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 2


def network(x, time):
    """Any smooth function of the state and of the time that the network is told."""
    return torch.tanh(x.double() @ WEIGHTS[:6] + WEIGHTS[6] * torch.sin(time.double()[:, None] / 200))


def scheduler_of(name, config):
    return getattr(diffusers, f"{name}Scheduler")(**config)


def their_states(scheduler, steps, **options):
    """The states of the scheduler's own loop, as its pipelines run it."""
    scheduler.set_timesteps(steps, **options)
    states = [NOISE * float(getattr(scheduler, "init_noise_sigma", 1.0))]
    for t in scheduler.timesteps:
        x = states[-1]
        asked = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        value = network(asked, torch.as_tensor(t).double().expand(3))
        states.append(scheduler.step(value, t, x, return_dict=False)[0])
    return states


def our_states(scheduler, steps, step=fm.steps.euler, times=None, **options):
    """The states of our sampler on the linear path, and its times."""
    read = reading(scheduler)
    teacher = fm.teacher(network, read.predicts, read.schedule, known=read.known, time=read.time)
    times = grid(scheduler, steps, **options) if times is None else times
    start = NOISE * noise_scale(scheduler, steps, **options)
    return fm.trajectory(teacher, start, times=times, step=step), times


def size(name, config, t):
    """alpha + sigma of the scheduler's own state at our time t, where ours has alpha + sigma = 1."""
    if name in FLOW or config.get("use_flow_sigmas"):
        return 1.0
    if name.startswith(("DDIM", "DPMSolver", "UniPC", "DEIS", "PNDM")):
        return 1 / (t**2 + (1 - t) ** 2) ** 0.5
    return 1 / (1 - t)


@pytest.mark.parametrize(
    "name, config, options",
    [
        ("DDIM", DDIM, {}),
        ("DDIM", DDIM | SD | {"steps_offset": 1}, {}),
        ("DDIM", DDIM | SD | {"steps_offset": 1, "set_alpha_to_one": False}, {}),
        ("DDIM", DDIM | SD | ZERO_SNR, {}),
        ("DDIM", DDIM | {"prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2"}, {}),
        ("DDIM", DDIM | TRAINED, {}),
        ("DDIMParallel", DDIM | V, {}),
        ("EulerDiscrete", SD, {}),
        ("EulerDiscrete", SD | {"timestep_spacing": "leading", "steps_offset": 1}, {}),
        ("EulerDiscrete", SD | {"prediction_type": "sample", "final_sigmas_type": "sigma_min"}, {}),
        ("EulerDiscrete", SD | ZERO_SNR, {}),
        ("EulerDiscrete", SD | V | KARRAS, {}),
        ("EulerDiscrete", SD | V | {"use_exponential_sigmas": True}, {}),
        ("EulerDiscrete", SVD, {}),
        ("FlowMatchEulerDiscrete", {"shift": 3.0}, {}),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, {"mu": 0.8}),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, {"mu": 0.8, "sigmas": [1.0, 0.8, 0.6, 0.4, 0.2]}),
        ("FlowMatchEulerDiscrete", {"invert_sigmas": True}, {}),
        ("EDMEuler", {}, {}),
        ("EDMEuler", {"sigma_schedule": "exponential", "sigma_data": 1.0, "final_sigmas_type": "sigma_min"} | V, {}),
    ],
)
def test_euler_on_the_grid_is_the_schedulers_own_sampler(name, config, options):
    scheduler = scheduler_of(name, config)
    ours, times = our_states(scheduler, 5, **options)
    theirs = their_states(scheduler, 5, **options)
    if config.get("final_sigmas_type") == "sigma_min":  # the grid is there already, and their last step is none
        torch.testing.assert_close(theirs.pop(), theirs[-1], rtol=1e-6, atol=1e-6)
    assert times == sorted(times, reverse=True)
    for x, expected, t in zip(ours, theirs, times, strict=True):
        expected = expected.double() / size(name, config, t)
        torch.testing.assert_close(x, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    "name, config",
    [
        ("DPMSolverMultistep", SD | V),
        ("DPMSolverMultistep", FLOW_SIGMAS),
        ("DPMSolverSinglestep", SD | V | {"lower_order_final": True}),
        ("UniPCMultistep", SD | V | KARRAS),
        ("UniPCMultistep", FLOW_SIGMAS),
        ("DEISMultistep", SD | V),
        ("DEISMultistep", FLOW_SIGMAS),
        ("HeunDiscrete", SD | V),
        ("KDPM2Discrete", SD | V),
        ("LMSDiscrete", SD | V),
        ("PNDM", SD | V | {"skip_prk_steps": True, "set_alpha_to_one": True, "timestep_spacing": "trailing"}),
        ("FlowMatchHeunDiscrete", {"shift": 2.0}),
        ("EDMDPMSolverMultistep", {}),
    ],
)
def test_solvers_of_higher_order_approach_the_same_end(name, config):
    """The end of our ODE by Heun's method at many steps, and theirs at more and more: PNDM's error falls like 1/n."""
    scheduler = scheduler_of(name, config)
    first, last = (grid(scheduler, 40)[k] for k in (0, -1))
    times = (last + (first - last) * torch.linspace(1, 0, 61, dtype=torch.float64) ** 1.5).tolist()
    end = our_states(scheduler, 40, fm.steps.heun, times)[0][-1]
    errors = [float((their_states(scheduler, n)[-1] / size(name, config, last) - end).abs().max()) for n in (10, 40)]
    assert errors[1] < errors[0] / 3 and errors[0] < 0.5, errors


@pytest.mark.parametrize("name", [*STEPS, *FLOW, *EDM])
def test_every_known_class_is_read_and_has_a_grid(name):
    """From the noisiest time that its network knows to data, on every path, and from its config alone as well."""
    scheduler = scheduler_of(name, {})
    read = reading(dict(scheduler.config) | {"_class_name": f"{name}Scheduler"}, paths.trigonometric)
    assert read == reading(scheduler, paths.trigonometric) and build(describe(read)) == read
    times = grid(scheduler, 8)
    assert 0.8 < times[0] <= 1 and times == sorted(set(times), reverse=True) and times[-1] < 0.05
    assert grid(scheduler, 8) == times  # the scheduler is left as it was
    assert len(times) == (11 if name == "PNDM" else 9)  # with the Runge-Kutta steps that it starts with


def test_schedules_are_taken_from_the_scheduler_itself():
    scheduler = scheduler_of("DDPM", SD)
    read = reading(scheduler)
    assert read.schedule.alphas_cumprod == tuple(scheduler.alphas_cumprod.double().tolist())
    assert read.predicts is paths.noise and read.known == (0.001, 1.0)
    _, times = read.asked(torch.zeros(1000, 1, dtype=torch.float64), times_of(scheduler))
    torch.testing.assert_close(times, torch.arange(1000, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    flow = reading(scheduler_of("FlowMatchEulerDiscrete", {"shift": 3.0}))
    assert flow.schedule == flow.path == paths.linear and flow.asked(NOISE, 0.25)[1].tolist() == [250.0] * 3


def times_of(scheduler):
    """Our times of all its steps."""
    share = scheduler.alphas_cumprod.double()
    return paths.linear.time_of(share.sqrt(), (1 - share).sqrt())


def test_folders_are_read(tmp_path):
    scheduler = scheduler_of("DDIM", SD | V)
    scheduler.save_pretrained(tmp_path / "model" / "scheduler")
    for folder in (tmp_path / "model", str(tmp_path / "model" / "scheduler")):
        assert reading(folder) == reading(scheduler)
    with pytest.raises(FileNotFoundError, match="scheduler"):
        reading(tmp_path)


@pytest.mark.parametrize(
    "scheduler, message",
    [
        (lambda: scheduler_of("DDIM", {"rescale_betas_zero_snr": True}), "DDIMScheduler predicts the noise.*last step"),
        (lambda: scheduler_of("EulerDiscrete", {"rescale_betas_zero_snr": True}), "EulerDiscreteScheduler predicts"),
        (lambda: scheduler_of("FlowMapEulerDiscrete", {}), "FlowMapEulerDiscreteScheduler.*a flow map already"),
        (lambda: scheduler_of("CMStochasticIterative", {}), "CMStochasticIterativeScheduler.*no velocity"),
        (lambda: scheduler_of("VQDiffusion", {"num_vec_classes": 4}), "VQDiffusionScheduler cannot be read.*DDIM"),
        (lambda: torch.nn.Linear(1, 1), "Linear cannot be read"),
        (lambda: {"_class_name": "NoSuchScheduler"}, "NoSuchScheduler cannot be read"),
        (lambda: {"num_train_timesteps": 10}, "_class_name, got None"),
        (lambda: scheduler_of("UniPCMultistep", {"prediction_type": "flow_prediction"}), "on the steps of DDPM"),
        (lambda: scheduler_of("UniPCMultistep", FLOW_SIGMAS | V), "'v_prediction' on the path of flow matching"),
        (lambda: scheduler_of("DDPM", {"prediction_type": "magic"}), "DDPMScheduler with prediction_type='magic'"),
        (lambda: scheduler_of("EDMEuler", {"prediction_type": "sample"}), "prediction_type='sample'"),
        (lambda: scheduler_of("EulerDiscrete", {"timestep_type": "continuous"} | V), "sigma_min and sigma_max"),
        (lambda: scheduler_of("DDPM", {"trained_betas": [0.1, 0.0, 0.2, 0.3]}), "fall from each to the next"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(scheduler, message):
    with pytest.raises(ValueError, match=message):
        reading(scheduler())


def test_the_path_of_preconditioned_networks_is_one():
    path = edm.Preconditioned(3.0, 0.4)
    t = torch.linspace(0.01, 1, 9, dtype=torch.float64)
    s = t.flip(0)
    for value, slope in ((path.alpha, path.alpha_slope), (path.sigma, path.sigma_slope)):
        torch.testing.assert_close(slope(s, t) * (t - s), value(t) - value(s), rtol=1e-12, atol=1e-12)
        _, rate = fm.derivative.functorch(value, (t,), (1,))
        torch.testing.assert_close(slope(t, t), rate)
    torch.testing.assert_close(path.time_of(path.alpha(t), path.sigma(t)), t)


def test_the_output_of_a_preconditioned_network_is_its_form():
    """F = (D - c_skip x)/c_out for a network that knows x_0, at x = x_0 + sigma eps."""
    d, sigma = 0.5, 2.0
    x0, eps = torch.randn(2, 4, dtype=torch.float64)
    c_in = 1 / (sigma**2 + d**2) ** 0.5
    F = (x0 - d**2 * c_in**2 * (x0 + sigma * eps)) / (sigma * d * c_in)
    on_data, on_noise = edm.output(edm.Preconditioned(80.0, d), torch.tensor(sigma / 80, dtype=torch.float64))
    torch.testing.assert_close(F, on_data * x0 + on_noise * eps)


@pytest.mark.parametrize("name", ["EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep"])
@pytest.mark.parametrize("betas", [SD, {}, {"beta_schedule": "squaredcos_cap_v2"}])
def test_a_schedule_that_ends_in_noise_is_read_with_any_betas(name, betas):
    """Some schedulers write 2^-24 for the zero at the last step, which may exceed the step before."""
    scheduler = scheduler_of(name, ZERO_SNR | betas)
    schedule = reading(scheduler).schedule
    assert schedule.alphas_cumprod[:-1] == tuple(scheduler.alphas_cumprod.double().tolist()[:-1])
    assert schedule.alphas_cumprod[-1] <= 2**-24 and schedule.alphas_cumprod[-1] < schedule.alphas_cumprod[-2]
    if name == "EulerDiscrete":
        (ours, _), theirs = our_states(scheduler, 5), their_states(scheduler, 5)
        torch.testing.assert_close(ours[-1], theirs[-1], rtol=0.02, atol=0.02)

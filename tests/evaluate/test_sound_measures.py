"""Measures of sound: pairs of frames up to the end, a distance that sees noise, and durations."""

import pytest
import torch

import flowmaps as fm
from flowmaps.data.wave_files import write_wave
from flowmaps.evaluate.distances import sliced_energy_distance
from flowmaps.evaluate.measures import draw
from flowmaps.evaluate.sound_measures import neighbours, sound_measures


def test_pairs_are_neighbouring_frames_up_to_the_end():
    z = torch.arange(1.0, 21)[:, None].expand(4, 20, 1).clone()
    for row, length in enumerate((20, 6, 2, 1)):
        z[row, length:] = 0
    pairs = neighbours(z, 5)
    assert len(pairs) == 5 + 5 + 1 + 0
    assert bool((pairs[:, 1] - pairs[:, 0] == 1).all())
    assert pairs[:5, 0].tolist() == [2, 6, 10, 14, 18] and pairs[5:10, 0].tolist() == [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Noise whose loudness jumps 20 times a second, of 0.2 to 0.8 seconds."""
    folder, rng = tmp_path_factory.mktemp("loud"), torch.Generator().manual_seed(0)
    for at in range(60):
        count = 160 + int(torch.randint(480, (), generator=rng))
        loud = 10.0 ** -torch.randint(1, 4, (count // 40 + 1,), generator=rng).repeat_interleave(40)[:count]
        write_wave(folder / f"{at}.wav", loud * torch.randn(count, generator=rng), 800)
    return fm.data.audio(str(folder), seconds=1.0, transform=fm.sequences.MDCT(8), held_out=0.5)


def test_the_distance_sees_noise_that_whole_rows_hide(data):
    draws = draw(data, 30, 4, seed=0)
    distance, durations = sound_measures(data.signal, draws)
    noise = torch.randn(draws.wanted, *data.shape, generator=torch.Generator().manual_seed(1))
    noise[:, 60:] = 0
    found, floor = distance.estimate(noise), distance.floor
    assert found.value > 5 * (abs(floor.value) + floor.stderr)
    held = draws.held_out[0]
    whole = held[(held != 0).any(2).sum(1) > 40][:, :40]
    assert sliced_energy_distance(whole, noise[: len(whole), :40]) < 0.2 * found.value  # the control
    assert durations.estimate(noise).value > 3 * (abs(durations.floor.value) + durations.floor.stderr)
    assert distance.key == "distance" and "at most 1 seconds" in durations.title

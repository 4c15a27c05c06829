"""Samples of runs on sound: their files, duration, prompts, temperature, ends, and refusals."""

import base64
import math

import pytest
import torch
from jinja2 import Environment, FileSystemLoader

import flowmaps as fm
from flowmaps import experiments
from flowmaps.cli import main
from flowmaps.data.wave_files import read_wave, write_wave
from flowmaps.experiments.run_data import given_data, run_data
from flowmaps.experiments.sound import SoundRequest, wave_files, write_sound
from flowmaps.reports import sound
from flowmaps.reports.page import TEMPLATES
from flowmaps.reports.sections import Material
from flowmaps.runs.folder import read_config
from flowmaps.sequences.signal import lengths

RATE, FRAME = 800, 8
QUIET = {"progress_bar": False, "trackers": (), "batch_size": 4}


def parts():
    """The macros of the pages."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("parts.html.j2").module


def tone(seconds, hz, rate=RATE):
    return 0.3 * torch.sin(2 * math.pi * hz * torch.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings, a run of a head on a backbone after two steps, and one of an MLP over whole rows."""
    folder = tmp_path_factory.mktemp("sound")
    for at in range(6):
        write_wave(folder / "recordings" / f"{at}.wav", tone(0.3 + 0.1 * at, 50 + 40 * at), RATE)
    data = fm.data.audio(str(folder / "recordings"), seconds=0.5, transform=fm.sequences.MDCT(FRAME), held_out=0.5)
    torch.manual_seed(0)
    head = fm.networks.Head(FRAME, 16, 16, 1)
    backbone = fm.networks.CausalTransformer(FRAME, 16, 1, 2)
    model = fm.sequences.Autoregressive(fm.FlowMap(head), backbone)
    fm.fit(model.flow, model.method(fm.methods.lsd()), data, steps=2, out=folder / "run", **QUIET)
    flow = fm.FlowMap(fm.networks.MLP(shape=data.shape, width=8, depth=1))
    plain = fm.data.as_data(data.draw(64).x0.flatten(1).reshape(64, *data.shape), standardise=False)
    fm.fit(flow, fm.methods.lsd(), plain, steps=1, out=folder / "plain", **QUIET)
    return folder


def test_a_run_holds_its_signal(folder):
    config = read_config(folder / "run")
    assert config["data"]["signal"] == {
        "type": "sequences.Signal",
        "arguments": {"rate": RATE, "transform": {"type": "sequences.MDCT", "arguments": {"bins": 8, "power": 0.5}}},
    }
    assert fm.load(folder / "run").units.axis == 1
    assert run_data(folder / "run").signal == fm.sequences.Signal(RATE, fm.sequences.MDCT(8))


def test_recordings_with_another_transform_do_not_fit_a_run(folder):
    data = fm.data.audio(str(folder / "recordings"), seconds=0.5, transform=fm.sequences.MDCT(FRAME, power=1))
    with pytest.raises(
        ValueError, match=r"frames of recordings are of Signal\(.*power=1\)\), and the ones of .*power=0.5"
    ):
        given_data(folder / "run", data)


def test_sound_has_no_moving_picture(folder):
    with pytest.raises(ValueError, match="sound has no moving picture: leave out `animate`"):
        experiments.sample(folder / "run", animate=folder / "film.gif")


def test_samples_are_sound_of_any_duration(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["sample", "run"]) == 0
    assert "1 samples of recordings" in capsys.readouterr().err
    wave, rate = read_wave(folder / "samples.wav")
    assert rate == RATE and wave.shape == (1, 400)
    assert main(["sample", "run", "-o", "long.wav", "--seconds", "1.5", "-n", "3", "--seed", "2"]) == 0
    waves = [read_wave(folder / f"long-{at}.wav")[0][0] for at in (1, 2, 3)]
    assert [len(one) for one in waves] == [1200] * 3 and not torch.equal(waves[0], waves[1])
    x = fm.experiments.sample("run", n=3, seed=2, seconds=1.5)
    assert x.shape == (3, 151, FRAME)
    signal = fm.sequences.Signal(RATE, fm.sequences.MDCT(FRAME))
    assert float((signal.wave(x[1]).clamp(-1, 1 - 2**-15) - waves[1]).abs().max()) < 1e-4


def test_samples_begin_with_the_prompt_that_they_continue(folder, monkeypatch):
    monkeypatch.chdir(folder)
    write_wave(folder / "in.wav", tone(0.5, 100), RATE)
    assert main("sample run -o out.wav --seconds 0.25 --prompt in.wav --temperature 0.5 --seed 1".split()) == 0
    wave = read_wave(folder / "out.wav")[0][0]
    assert len(wave) == 400 + 200
    assert float((wave[: 400 - FRAME] - tone(0.5, 100)[: 400 - FRAME]).abs().max()) < 1e-4
    assert not torch.allclose(wave[400 - FRAME : 400], tone(0.5, 100)[-FRAME:], atol=1e-3)  # half of it is made
    free = fm.experiments.sample("run", n=1, seconds=0.25, temperature=0.5, seed=1)
    told = fm.experiments.sample("run", n=1, seconds=0.25, temperature=0.5, seed=1, prompt="in.wav")
    assert told.shape == free.shape and not torch.equal(told, free)


def test_temperature_is_the_variance_of_the_noise(folder):
    flow = fm.load(folder / "run")
    cold = fm.experiments.sample(folder / "run", n=2, temperature=0.25, seed=5)
    noise = 0.5 * fm.noise(flow, 2, shape=(51, FRAME), seed=5)
    assert torch.allclose(cold, fm.sample(flow, noise), atol=1e-6)


def test_ends_cut_the_files(tmp_path):
    z = torch.randn(3, 10, 4)
    z[0, 6:] = 0
    z[1] = 0
    assert lengths(z).tolist() == [6, 0, 10]
    request = SoundRequest(fm.sequences.Signal(RATE, fm.sequences.MDCT(4)), (10, 4))
    write_sound(tmp_path / "a.wav", z / 10, request, lengths(z))
    assert [read_wave(one)[0].shape[1] for one in wave_files(tmp_path / "a.wav", 3)] == [20, 4, 36]
    assert [one.name for one in wave_files(tmp_path / "a.wav", 12)][-3:] == ["a-10.wav", "a-11.wav", "a-12.wav"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sample run -o a.png", "samples of this run are sound, and cannot be written as .png: write them to a .wav"),
        ("sample plain -o a.wav", "samples of this run are vectors, and cannot be written as .wav"),
        ("sample plain -o a.npy --seconds 1", "is for runs on sound, and the rows of plain are vectors"),
        ("sample plain -o a.npy --temperature 0.5", "is for models that make a sequence frame by frame"),
        ("sample run --seconds 0", "must be positive"),
        ("sample run --temperature -1", "must be positive"),
        ("sample run --prompt nowhere.wav", "nowhere.wav"),
        ("sample run --prompt fast.wav", "fast.wav has a sample rate of 1600 Hz, and this run 800 Hz"),
        ("sample run --prompt short.wav", "a prompt has at least 8 samples, the first frame, and this wave has 4"),
        ("sample run --prompt broken.wav", "broken.wav is no .wav file"),
        ("sample run --prompt in.wav in.wav", "samples of sound continue one"),
        ("sample run --seconds 1 --reward label:1", "are for samples without steering"),
    ],
)
def test_wrong_options_are_named_in_one_sentence(folder, words, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    write_wave(folder / "in.wav", tone(0.5, 100), RATE)
    write_wave(folder / "fast.wav", tone(0.5, 100, 2 * RATE), 2 * RATE)
    write_wave(folder / "short.wav", torch.zeros(4), RATE)
    (folder / "broken.wav").write_bytes(b"RIFF")
    assert main(words.split()) != 0
    said = " ".join(capsys.readouterr().err.split())
    assert message in said and "Traceback" not in said


@pytest.mark.slow
def test_a_page_has_players_and_durations(folder):
    data, flow, config = run_data(folder / "run"), fm.load(folder / "run"), read_config(folder / "run")
    found = sound.section(Material(flow, data, {"rows": []}, config))
    titles = [one.picture.title for one in found.sounds]
    assert titles == ["1 jump"] * 3 + ["16 ODE steps"] * 3 + ["recordings"] * 3
    content = base64.b64decode(found.sounds[0].source.removeprefix("data:audio/wav;base64,"))
    assert content[:4] == b"RIFF" and len(content) == 44 + 2 * 400
    assert [row[1][0] for row in found.durations.rows] == ["1 jump", "recordings"]
    assert found.durations.rows[0][1][1:] == ["0.50", "0.00", "0.50", "0.50"]
    players = parts().players(found.sounds)
    assert players.count("<audio controls") == len(found.sounds) and "data:audio/wav;base64," in players

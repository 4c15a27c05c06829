"""Folders of recordings: windows, their ends, the split, sound files, and recordings that cannot be used."""

import math
import warnings
import wave as standard

import pytest
import torch

import flowmaps as fm
from flowmaps.data import audio, load
from flowmaps.data.load import load_again
from flowmaps.data.wave_files import read_wave, write_wave

RATE = 800
FRAME = 8
TRANSFORM = fm.sequences.MDCT(FRAME)


def tone(seconds=1.0, hz=100.0, rate=RATE, seed=0):
    """A tone with a little noise, which makes recordings different."""
    t = torch.arange(round(seconds * rate)) / rate
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(seed))
    return 0.5 * torch.sin(2 * math.pi * hz * t) + 0.01 * noise


@pytest.fixture
def folder(tmp_path):
    """Twelve recordings of 0.3 to 2.5 seconds, the last one a copy of the first."""
    for at in range(11):
        write_wave(tmp_path / f"{at:02}.wav", tone(0.3 + 0.2 * at, 50 + 20 * at, seed=at), RATE)
    (tmp_path / "11.wav").write_bytes((tmp_path / "00.wav").read_bytes())
    return tmp_path


def small(folder, **options):
    return audio(str(folder), **{"seconds": 0.5, "transform": TRANSFORM, "held_out": 0.2, **options})


def raw(path, content, channels=1, width=2, rate=RATE):
    """Write bytes as a .wav file."""
    with standard.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)


def test_rows_are_windows_of_the_recordings(folder):
    data = small(folder)
    assert (data.shape, data.kind, data.given) == ((51, FRAME), "vectors", ("valid",))
    assert data.signal == fm.sequences.Signal(RATE, TRANSFORM) and data.classes is None
    batch = data.draw(64, seed=1)
    valid = batch.given["valid"]
    assert batch.x0.dtype == torch.float32 and valid.dtype == torch.bool and valid.shape == (64, 51)
    assert bool((batch.x0[~valid] == 0).all()) and bool(valid[:, 0].all())
    assert bool((valid[:, 1:] <= valid[:, :-1]).all())  # after its end a recording does not go on
    waves = [read_wave(folder / f"{at:02}.wav")[0][0] for at in range(12)]
    whole = [data.signal.frames(one) for one in waves]
    for x, count in zip(data.in_units(batch.x0), valid.sum(1), strict=True):
        part = x[:count]
        places = [(one.unfold(0, len(part), 1).mT - part).abs().amax((1, 2)) for one in whole if len(one) >= len(part)]
        assert min(float(place.min()) for place in places) < 1e-5


def test_every_frame_is_the_middle_of_a_row_and_ends_are_seen(folder):
    source = small(folder).source.source.source
    assert len(source.train) == len(source.train.frames)
    ends = source.train.count < 51
    assert 0.05 < float(ends.float().mean()) < 0.6  # also of recordings that are longer than a row
    long = [one for one in source.train.count.unique().tolist() if one >= 51]
    assert max(long) > 100


def test_frames_are_standardised_by_channel_and_come_back(folder):
    data = small(folder)
    source = data.source.source.source
    frames = source.train.frames.double()
    assert torch.allclose(torch.tensor(data.units.mean).double(), frames.mean(0), atol=1e-6)
    assert torch.allclose(torch.tensor(data.units.std).double(), frames.std(0, correction=0), atol=1e-6)
    again = load_again(load(f"audio:{folder}", seconds=0.5, transform=TRANSFORM, held_out=0.2).recipe, "config.json")
    assert again.units is None and again.signal == data.signal and again.shape == data.shape
    x, z = again.draw(8, seed=3), data.draw(8, seed=3)
    valid = x.given["valid"]
    assert torch.allclose(data.in_units(z.x0)[valid], x.x0[valid], atol=1e-5) and bool((x.x0[~valid] == 0).all())


def test_batches_are_functions_of_seed_and_number(folder):
    data = small(folder)
    first = [next(data.batches(6, seed=4, start=7)) for _ in range(2)]
    assert torch.equal(first[0].x0, first[1].x0)
    part = next(data.batches(6, seed=4, start=7, rows=slice(1, None, 2)))
    assert torch.equal(part.x0, first[0].x0[1::2]) and torch.equal(part.given["valid"], first[0].given["valid"][1::2])
    assert not torch.equal(next(data.batches(6, seed=5, start=7)).x0, first[0].x0)


def test_held_out_rows_are_of_other_recordings_and_copies_stay_together(folder):
    for share, least in ((0.1, 1), (0.5, 5)):
        data = small(folder, held_out=share)
        assert "1 of 12 recordings are copies" in data.notes[0]
        train, test = data.source.source.source.train, data.source.source.source.test
        assert len(test) >= least
        known = {one.numpy().tobytes() for one in train.frames}
        assert not any(one.numpy().tobytes() in known for one in test.frames)
    rows = data.held_out(1000)
    assert len(rows.x0) == len(test)  # none twice
    assert small(folder, held_out=0).source.source.source.test is None


def test_class_folders_and_a_split_are_kept(tmp_path):
    for part, seed in (("train", 0), ("test", 50)):
        for name in ("no", "yes"):
            for at in range(3):
                write_wave(
                    tmp_path / part / name / f"{at}.wav", tone(0.4, 60 + 90 * (name == "yes"), seed=seed + at), RATE
                )
    data = small(tmp_path)
    assert data.class_names == ("no", "yes") and data.classes == 2
    high = data.in_units(data.draw(200).x0).abs().mean(1).argmax(1)  # the bin of the tone
    label = data.draw(200).label
    assert bool((high[label == 0] == 1).all()) and bool((high[label == 1] == 3).all())
    assert len(data.source.source.source.test) == 6
    assert small(tmp_path, labels=False).draw(3).label is None


def test_a_run_of_a_signal_is_read_back(folder, tmp_path_factory):
    data = load(f"audio:{folder}", seconds=0.5, transform=TRANSFORM)
    assert load_again(data.recipe, "config.json").signal == data.signal
    with pytest.raises(ValueError, match="config.json cannot be used"):
        load_again({**data.recipe, "transform": {"type": "networks.MLP"}}, "config.json")


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_all_widths_are_read(tmp_path, width):
    levels = [0, 1, -1, 100, -(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1]
    shift = 128 if width == 1 else 0
    raw(tmp_path / "a.wav", b"".join((n + shift).to_bytes(width, "little", signed=width > 1) for n in levels), 2, width)
    channels, rate = read_wave(tmp_path / "a.wav")
    assert rate == RATE and channels.shape == (2, 3)
    assert torch.allclose(channels.T.flatten(), torch.tensor(levels) / 2 ** (8 * width - 1), atol=1e-7)


def test_waves_are_written_with_16_bits_and_clipping_is_said(tmp_path):
    x = tone()
    write_wave(tmp_path / "a.wav", x, RATE)
    back, rate = read_wave(tmp_path / "a.wav")
    assert rate == RATE and float((back[0] - x).abs().max()) <= 0.5 / 32768
    with pytest.warns(
        UserWarning, match=r"0\.5 of the samples of b\.wav are beyond full scale, up to 3\.00, and are cl"
    ):
        write_wave(tmp_path / "b.wav", torch.tensor([3.0, 0.0, -3.0, 0.0]), RATE)
    assert read_wave(tmp_path / "b.wav")[0][0].tolist() == [32767 / 32768, 0, -1, 0]
    for bad, message in (
        (torch.zeros(2, 2), "a wave has shape"),
        (torch.tensor([math.nan]), "1 of its 1 samples are not"),
    ):
        with pytest.raises(ValueError, match=message):
            write_wave(tmp_path / "c.wav", bad, RATE)
    assert not (tmp_path / "c.wav").exists()


def test_recordings_that_cannot_be_used_are_left_out_and_named(folder):
    raw(folder / "silent.wav", bytes(2000))
    raw(folder / "short.wav", b"ab")
    raw(folder / "empty.wav", b"")
    (folder / "broken.wav").write_bytes(b"RIFF and nothing else")
    (folder / "cut.wav").write_bytes((folder / "05.wav").read_bytes()[:500])
    (folder / "other.mp3x").write_bytes(b"")
    with pytest.warns(UserWarning, match="5 of 17 recordings of .* are left out: broken.wav is no .wav file"):
        data = small(folder)
    reasons = dict(one.split(" ", 1) for one in data.skipped)
    assert set(reasons) == {"silent.wav", "short.wav", "empty.wav", "broken.wav", "cut.wav"}
    assert "is silent" in reasons["silent.wav"] and "1 samples, less than the 8 of a frame" in reasons["short.wav"]
    assert "cut off" in reasons["cut.wav"] and "cut off" in reasons["empty.wav"]


def test_several_channels_are_mixed_and_clipped_recordings_are_said(folder):
    left, right = tone(seed=1), tone(seed=2)
    both = (torch.stack((left, right), 1) * 32768).round().to(torch.int16)
    raw(folder / "stereo.wav", both.numpy().tobytes(), 2)
    write_wave(folder / "square.wav", 0.999 * tone(hz=3).sign(), RATE)
    with pytest.warns(
        UserWarning, match=r"1 of 14 recordings of .* are clipped: .* of the samples of square\.wav are at"
    ):
        data = small(folder)
    assert data.notes[0] == "1 of 14 recordings have several channels, which are mixed to one"
    assert "14 recordings" in data.notes[-1] and f"at {RATE} Hz" in data.notes[-1]


def test_rates_that_differ_are_counted_and_resampled_on_request(folder):
    write_wave(folder / "12.wav", tone(1.0, 100.0, rate=2 * RATE), 2 * RATE)
    with pytest.raises(
        ValueError, match=r"12 of 800 Hz \(such as 00.wav\), 1 of 1600 Hz \(such as 12.wav\): pass rate=800"
    ):
        small(folder)
    data = small(folder, rate=RATE)
    assert data.signal.rate == RATE and "13 recordings" in data.notes[-1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seconds": 0}, ValueError, "seconds must be positive"),
        ({"rate": -1}, ValueError, "rate must be positive"),
        ({"held_out": 2}, ValueError, r"held_out must be in \[0, 1\]"),
        ({"transform": "mdtc"}, ValueError, r'unknown transform "mdtc" \(did you mean mdct\?\)'),
        ({"transform": 3}, TypeError, "a transform is a name or an object of flowmaps.sequences, got 3"),
        ({"labels": True}, ValueError, "labels=True needs class folders, and the sound files lie directly in"),
    ],
)
def test_wrong_options_are_named(folder, options, error, message):
    with pytest.raises(error, match=message):
        small(folder, **options)


def test_folders_without_recordings(tmp_path):
    with pytest.raises(ValueError, match=r"no sound files in .*: expected files ending in .*\.wav"):
        audio(str(tmp_path))
    raw(tmp_path / "a.wav", bytes(2000))
    with pytest.raises(ValueError, match=r"no recording of .* can be used, the first of 1: a\.wav is silent"):
        audio(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load(f"audio:{tmp_path}/nowhere")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        audio(str(tmp_path / "a.wav"))


def test_one_recording_is_kept_for_training(tmp_path):
    write_wave(tmp_path / "a.wav", tone(), RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = small(tmp_path)
    assert len(data.draw(5).x0) == 5
    with pytest.raises(ValueError, match="no held-out rows"):
        data.held_out(5)

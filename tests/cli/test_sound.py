"""Runs on sound from the command line: training on a folder of recordings in classes, evaluation, the page."""

import json
import math

import pytest
import torch

from flowmaps.cli import main
from flowmaps.data.wave_files import read_wave, write_wave

RATE = 400
TINY = ["--steps", "2", "--batch-size", "4", "--width", "16", "--depth", "1", "--no-progress-bar", "--trackers"]
TRANSFORM = "{'type': 'sequences.MDCT', 'arguments': {'bins': 16}}"


@pytest.mark.slow
def test_a_folder_of_recordings_becomes_a_run_with_sounds_a_table_and_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for at in range(24):
        t = torch.arange(120 + 10 * at) / RATE
        name = f"recordings/{('low', 'high')[at % 2]}/{at}.wav"
        noise = 0.02 * torch.randn(len(t), generator=torch.Generator().manual_seed(at))
        write_wave(tmp_path / name, 0.3 * torch.sin(2 * math.pi * (30, 120)[at % 2] * t) + noise, RATE)
    data = ["audio:recordings", "--data-args", "seconds=0.5", f"transform={TRANSFORM}", "held_out=0.5"]
    assert main(["train", *data, "--out", "run", *TINY]) == 0
    said = capsys.readouterr().err
    assert "24 recordings of" in said and "-o samples.wav" in said
    assert main("sample run --seconds 1 -n 2 --label 1".split()) == 0
    assert read_wave(tmp_path / "samples-2.wav")[0].shape == (1, 400)
    assert main("evaluate run --quick -n 4 --steps 1 --ode-steps 2 --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert "neighbouring standardised frames" in json.dumps(found) and "duration_distance" in json.dumps(found)
    assert main("report run".split()) == 0
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert page.count("<audio controls") == 9 and "standard deviation" in page

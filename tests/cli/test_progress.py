"""Progress: bars on a terminal, lines elsewhere."""

import re
import time

import numpy as np
import pytest
from helpers import make_image_folder, run

from frechet.cli import progress
from frechet.cli.progress import LineProgress, progress_bars


class Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_a_line_has_counts_rate_and_remaining_time():
    clock = Clock()
    lines = LineProgress(clock)
    clock.seconds = 12
    assert lines.describe() == "starting, 12 s elapsed"
    lines.update("generated", 2_000, 50_000)  # resumed: 2,000 images were computed in another run
    clock.seconds += 30
    assert lines.describe() == "generated: 2,000 of 50,000, 30 s elapsed"
    lines.update("generated", 5_000, 50_000)  # 100/s since the start, so 450 s remain
    assert lines.describe() == "generated: 5,000 of 50,000, 100.0/s, about 8 min remaining"
    lines.update("download weights\x1b.pth", 0, 96_000_000)
    clock.seconds += 8
    lines.update("download weights\x1b.pth", 48_000_000, 96_000_000)
    assert lines.describe() == "download weights\\x1b.pth: 48.0 MB of 96.0 MB, 6.0 MB/s, about 8 s remaining"
    lines.update("metrics", 3, 6)
    clock.seconds += 7_200
    assert lines.describe() == "metrics: 3 of 6, 2.0 h elapsed"
    lines.update("metrics", 4, 6)  # 0.00014/s
    assert lines.describe() == "metrics: 4 of 6, about 4.0 h remaining"


def test_lines_are_printed_while_nothing_is_reported(monkeypatch, capsys):
    """As during a long decomposition."""
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.01)
    with progress_bars() as update:
        update("metrics", 0, 2)
        deadline = time.monotonic() + 10
        printed = ""
        while printed.count("metrics: 0 of 2") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
            printed += capsys.readouterr().err
    assert printed.count("metrics: 0 of 2") >= 2
    assert "\r" not in printed
    assert "\x1b" not in printed


def test_a_bar_has_counts_and_rate(capsys):
    with progress_bars("bar") as update:
        update("[red]a\x1b", 0, 2_000)
        update("[red]a\x1b", 2_000, 2_000)
        update("download b", 500_000, 1_000_000)
    printed = capsys.readouterr().err
    assert "[red]a\\x1b" in printed
    assert "2,000/2,000" in printed
    assert "0.5 MB/1.0 MB" in printed


def test_score_reports_metrics_and_can_be_silent(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32))
    np.save(tmp_path / "y.npy", np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32))
    arguments = ("score", tmp_path / "x.npy", tmp_path / "y.npy", "--features", "--metrics", "fd,kid")
    assert "metrics" in (shown := run(*arguments, "--progress", "bar")[2])
    assert "2/2" in shown
    for mode in ("auto", "plain", "off"):  # less than 30 s
        assert not re.search(r"^(metrics|starting)", run(*arguments, "--progress", mode)[2], re.MULTILINE), mode
    code, out, err = run(*arguments, "--progress", "bars")
    assert (code, out) == (2, "")
    assert "'bars'" in err
    assert "did you mean bar?" in err


@pytest.mark.slow
@pytest.mark.usefixtures("small_inputs")
def test_images_and_the_demo_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.02)
    monkeypatch.setattr("frechet.cli.demo.N_REFERENCE", 24)
    monkeypatch.setattr("frechet.cli.demo.N_CORRUPTED", 8)
    code, _, err = run("demo", "--plot", tmp_path / "plot.png")
    assert code == 0
    assert re.search(r"^patches: \d+ of 152, ", err, re.MULTILINE)  # 24 + 8 (1 + 5 x 3)
    folder = make_image_folder(tmp_path / "a", 200)
    code, _, err = run("stats", folder, tmp_path / "a.npz", "--extractor", "efficientnet-lite0")
    assert code == 0
    assert re.search(r"^images: \d+ of 200, ", err, re.MULTILINE)

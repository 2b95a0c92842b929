"""The command line, in processes of its own: streams, exit codes, help."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, make_image_folder, restore_sigint, run
from PIL import Image

OFFLINE = ("--extractor", "efficientnet-lite0")


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    return make_image_folder(folder / "a", 6, seed=1), make_image_folder(folder / "b", 8, seed=2)


def test_json_is_one_object_and_numbers_go_to_stdout(sides, tmp_path):
    code, out, err = run("score", *sides, *OFFLINE, "--json", "--output", tmp_path / "score.json")
    assert code == 0
    result = json.loads(out)
    assert set(result) == {"scores", "unavailable", "provenance"}
    score = result["scores"]["fd"]
    assert {"label", "value", "corrected_value", "standard_error", "interval_95", "interval_method", "terms"} <= set(
        score
    )
    assert score["interval_95"] is None
    assert score["interval_unavailable_reason"]
    assert (score["n_generated"], score["n_reference"]) == (6, 8)
    assert "warning: 6 generated images span" in err
    assert json.loads((tmp_path / "score.json").read_text()) == result


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--num-workers=8", "pytorch-fid: here it is --workers"),
        ("--save-stats", "pytorch-fid: here it is frechet stats IMAGES OUT.npz"),
        ("--mode=clean", "clean-fid: here it is --preprocessing clean"),
        ("--path1=a", "jax-fid: here it is frechet score GENERATED REFERENCE"),
        ("--input1=a", "torch-fidelity: here it is frechet score GENERATED REFERENCE"),
        ("--gpu=0", "torch-fidelity: here it is --device cuda:N"),
        ("--fid", "torch-fidelity: here it is --metrics fid"),
        ("--isc", "torch-fidelity: here it is --metrics is@torch-fidelity"),
    ],
)
def test_another_tools_flag_is_answered_with_ours(flag, told):
    code, out, err = run("score", "a", "b", flag)
    assert (code, out) == (2, "")
    assert f"{flag.partition('=')[0]} is a flag of {told}" in " ".join(err.split())
    assert "docs/coming-from/" in err


@pytest.mark.parametrize("group", ["weights", "cache"])
def test_the_list_of_commands_has_whole_sentences(group):
    listed = run(group, "--help", COLUMNS="80")[1].partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_a_flag_of_nobody_gets_the_nearest_one():
    code, _, err = run("score", "a", "b", "--extracter=x")
    assert code == 2
    assert "--extractor" in err
    assert "docs/coming-from" not in err


def test_two_folders_without_a_command_are_told_the_command(sides):
    code, out, err = run(sides[0], "b c", "--json")
    assert (code, out) == (2, "")
    assert f"{sides[0]} is no command; to score it: frechet score {sides[0]} 'b c' --json" in err
    assert "No such command 'nowhere'" in run("nowhere", sides[1])[2]


def test_a_list_of_metrics_may_have_spaces(sides):
    code, out, _ = run("score", *sides, *OFFLINE, "--metrics", "fd, mmd", "--json")
    assert (code, [*json.loads(out)["scores"]]) == (0, ["fd", "mmd"])


def test_the_table_names_the_score(sides):
    code, out, _ = run("score", *sides, *OFFLINE)
    assert code == 0
    assert out.startswith("FD-EfficientNet-Lite0: ")
    for word in ("mean", "covariance", "6 generated, 8 reference", "float32"):
        assert word in out


def test_stats_then_score(sides, tmp_path):
    assert run("stats", sides[1], tmp_path / "b.npz", *OFFLINE)[:2] == (
        0,
        f"{tmp_path / 'b.npz'}: 8 images, 1280 dimensions\n",
    )
    direct = json.loads(run("score", *sides, *OFFLINE, "--json")[1])
    stored = json.loads(run("score", sides[0], tmp_path / "b.npz", *OFFLINE, "--json")[1])
    assert stored["scores"]["fd"]["value"] == pytest.approx(direct["scores"]["fd"]["value"], rel=1e-6)
    code, _, err = run("stats", sides[1], tmp_path / "b.npz", *OFFLINE)
    assert code == 2
    assert "--force" in err


def test_wrong_requests_are_a_sentence_and_exit_2(sides, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (("score", sides[0], tmp_path / "absent"), "no such file or folder"),
        (("score", sides[0], tmp_path / "empty"), "it is empty"),
        (("score", sides[0]), "fid compares two sides"),
        (("score", sides[0], sides[1], "--nonsense"), "No such option"),
        (("nonsense",), "No such command"),
        (("score", "x" * 400, sides[1]), "cannot be read"),
        (("stats", sides[0], tmp_path / "absent" / "s.npz", *OFFLINE), "does not exist"),
        (("stats", sides[0], tmp_path / "s.txt", *OFFLINE), "should end in .npz"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert message in err
        assert "Traceback" not in err


def test_a_bad_image_ends_the_run_with_3(tmp_path, sides):
    folder = make_image_folder(tmp_path / "a")
    Image.new("RGB", (90, 90)).save(folder / "bad.jpg")
    (folder / "bad.jpg").write_bytes((folder / "bad.jpg").read_bytes()[:400])
    code, out, err = run("score", folder, sides[1], *OFFLINE)
    assert (code, out) == (3, "")
    assert "bad.jpg" in err
    code, out, err = run("score", folder, sides[1], *OFFLINE, "--on-bad-image", "skip", "--json")
    assert code == 0
    assert "bad.jpg" in json.loads(out)["scores"]["fd"]["skipped_images"][0]


def test_control_characters_of_file_names_do_not_reach_the_terminal(tmp_path, sides):
    folder = make_image_folder(tmp_path / "a")
    (folder / "evil\x1b[31m.png").write_text("broken")
    code, _, err = run("score", folder, sides[1], *OFFLINE)
    assert code == 3
    assert "\x1b" not in err
    assert "\\x1b[31m" in err


def test_missing_weights_are_explained(sides, tmp_path):
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME")}
    code, _, err = run("score", *sides, **home, FRECHET_WEIGHTS="", https_proxy="http://127.0.0.1:9", no_proxy="")
    assert code == 2
    assert "pt_inception-2015-12-05-6726825d.pth" in err
    assert "--extractor efficientnet-lite0" in err


def test_ctrl_c_is_130_and_leaves_no_output(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (4000, 8, 8, 3), np.uint8)
    np.save(tmp_path / "many.npy", images)
    command = [sys.executable, "-m", "frechet", "stats", tmp_path / "many.npy", tmp_path / "s.npz", *OFFLINE]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=restore_sigint
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while maps.exists() and process.poll() is None and "openvino_intel_cpu" not in maps.read_text():
        time.sleep(0.05)  # Linux: until the network's backend is there
    time.sleep(1 if maps.exists() else 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["many.npy"]


def test_a_reader_that_stops_reading_costs_nothing(sides, tmp_path):
    command = (
        f"{sys.executable} -m frechet score {sides[0]} {sides[1]} {' '.join(OFFLINE)} --json --output {tmp_path}/s.json"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Exception" not in done.stderr
    assert (tmp_path / "s.json").exists()


def test_a_full_output_device_is_3():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m frechet doctor > /dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "No space left" in done.stderr


def test_doctor_says_what_works(tmp_path):
    code, out, _ = run("doctor")
    assert code == 0
    assert "extractor efficientnet-lite0" in out
    assert "the official weights" in out
    (tmp_path / "junk.pth").write_text("junk")
    assert "--  extractor inception" in run("doctor", FRECHET_WEIGHTS=str(tmp_path / "junk.pth"))[1]


@pytest.mark.parametrize("command", [[], ["score"], ["stats"], ["demo"], ["doctor"]])
def test_every_command_has_help(command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: frechet" in out


def test_the_readme_names_every_command_and_flag():

    from frechet.cli.main import frechet

    readme = (ROOT / "README.md").read_text() + "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for name in frechet.list_commands(None):
        assert f"frechet {name}" in readme
        for option in frechet.get_command(None, name).params:
            for flag in option.opts:
                assert not flag.startswith("--") or f"`{flag}" in readme, flag


def test_one_file_cannot_be_output_and_report(sides, tmp_path):
    page = tmp_path / "page.html"
    code, _, err = run("score", *sides, *OFFLINE, "--report", page, "--output", page)
    assert (code, page.exists()) == (2, False)
    assert "--output and --report name the same file" in err

"""The command line: streams, exit codes, messages, help. Tests of what a process has start one and are marked."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, make_image_folder, restore_sigint, run, run_process
from PIL import Image

from frechet.cli.main import frechet
from frechet.features.registry import EXTRACTORS
from frechet.statistics.npz_format import read_statistics

pytestmark = pytest.mark.usefixtures("small_inputs")

OFFLINE = ("--extractor", "efficientnet-lite0")


@pytest.fixture(scope="module")
def image_folders(tmp_path_factory):
    """Generated and reference images: 6 and 8."""
    folder = tmp_path_factory.mktemp("image_folders")
    return make_image_folder(folder / "a", 6, seed=1), make_image_folder(folder / "b", 8, seed=2)


@pytest.mark.subprocess
def test_json_is_one_object_and_numbers_go_to_stdout(image_folders, tmp_path):
    code, out, err = run_process("score", *image_folders, *OFFLINE, "--json", "--output", tmp_path / "score.json")
    assert code == 0
    result = json.loads(out)
    assert set(result) == {"schema", "scores", "unavailable", "provenance"}
    score = result["scores"]["fd"]
    assert {"label", "value", "corrected_value", "standard_error", "interval_95", "interval_method", "terms"} <= set(
        score
    )
    assert score["interval_95"] is None
    assert score["interval_unavailable_reason"]
    assert (score["n_generated"], score["n_reference"]) == (6, 8)
    assert "warning: " in err
    assert "6 generated and 8 reference images" in err
    assert json.loads((tmp_path / "score.json").read_text()) == result


@pytest.mark.parametrize(
    ("flag", "tool", "replacement"),
    [
        ("--num-workers=8", "pytorch-fid", "--workers"),
        ("--save-stats", "pytorch-fid", "frechet stats IMAGES OUT.npz"),
        ("--mode=clean", "clean-fid", "--preprocessing clean"),
        ("--path1=a", "jax-fid", "frechet score GENERATED REFERENCE"),
        ("--input1=a", "torch-fidelity", "frechet score GENERATED REFERENCE"),
        ("--gpu=0", "torch-fidelity", "--device cuda:N"),
        ("--fid", "torch-fidelity", "--metrics fid"),
        ("--isc", "torch-fidelity", "--metrics is@torch-fidelity"),
    ],
)
def test_flag_of_another_tool_names_the_replacement(flag, tool, replacement):
    code, out, err = run("score", "a", "b", flag)
    assert (code, out) == (2, "")
    for word in (flag.partition("=")[0], tool, replacement, f"docs/coming-from/{tool}.md"):
        assert word in " ".join(err.split())


@pytest.mark.parametrize("group", ["weights", "cache"])
def test_command_lists_are_not_truncated(group):
    listed = run(group, "--help", COLUMNS="80")[1].partition("Commands:")[2]
    assert listed
    assert "..." not in listed


def test_unknown_flag_suggests_the_nearest_one():
    code, _, err = run("score", "a", "b", "--extracter=x")
    assert code == 2
    assert "--extracter" in err
    assert "--extractor" in err
    assert "docs/coming-from" not in err


def test_two_folders_without_a_command_suggest_score(image_folders):
    code, out, err = run(image_folders[0], "b c", "--json")
    assert (code, out) == (2, "")
    assert f"frechet score {image_folders[0]} 'b c' --json" in err
    err = run("nowhere", image_folders[1])[2]
    assert "nowhere" in err
    assert "frechet score" not in err


@pytest.mark.slow
def test_a_list_of_metrics_may_have_spaces(image_folders):
    code, out, _ = run("score", *image_folders, *OFFLINE, "--metrics", "fd, mmd", "--json")
    assert (code, [*json.loads(out)["scores"]]) == (0, ["fd", "mmd"])


@pytest.mark.slow
def test_scores_are_one_table_with_the_provenance_and_each_warning_once(image_folders):
    """Six metrics in at most 20 lines, of which the numbers are on stdout and everything else on stderr."""
    metrics = "fd,kid,precision,recall,density,coverage"
    code, out, err = run("score", *image_folders, *OFFLINE, "--metrics", metrics)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["metric", "value", "95", "%", "CI", "better"]  # FD has no interval: n <= d
    assert [line.split()[0] for line in lines[1:7]] == [
        f"{name}-EfficientNet-Lite0" for name in ("FD", "KID", "Precision", "Recall", "Density", "Coverage")
    ]
    assert [line.split()[-1] for line in lines[1:7]] == ["↓", "↓", "↑", "↑", "↑", "↑"]
    assert lines[7] == ""
    assert out.count("6 generated, 8 reference") == out.count("float32") == 1
    assert err.count("feature dimensions") == 1
    assert "6 generated and 8 reference images for 1,280 feature dimensions" in err
    of_fd, of_prdc = err.splitlines()[-2:]
    assert of_fd.startswith("note: no confidence interval for FD-EfficientNet-Lite0: at least 1,920")  # 1.5 n/d
    assert of_prdc.startswith(
        "note: no confidence interval for Precision-EfficientNet-Lite0, Recall-EfficientNet-Lite0, "
    )
    assert len(lines) + len(err.splitlines()) <= 20
    assert "settings" not in out + err


@pytest.mark.slow
def test_verbose_shows_parts_and_settings(image_folders):
    code, out, _ = run("score", *image_folders, *OFFLINE, "--metrics", "fd,precision", "--verbose")
    assert code == 0
    for word in ("  mean ", "  covariance ", "settings", "k 3", "95 % CI", "none: "):
        assert word in out, word


def test_unbiased_metrics_have_no_corrected_value_and_intervals_can_be_left_out(tmp_path):
    for name, seed in (("x", 0), ("y", 1)):
        np.save(
            tmp_path / f"{name}.npy", np.random.default_rng(seed).standard_normal((60, 4)).astype(np.float32) + seed
        )
    pair = ("score", tmp_path / "x.npy", tmp_path / "y.npy", "--features")
    header, kid = run(*pair, "--metrics", "kid")[1].splitlines()[:2]
    assert "95 % CI" in header
    assert "corrected" not in header
    assert re.fullmatch(r"KID .* -?[0-9.]+ +-?[0-9.]+ to [0-9.]+ +↓", kid)
    _, out, err = run(*pair, "--interval", "none")
    assert "CI" not in out
    assert "interval" not in out + err
    _, out, err = run(*pair)
    assert "bias-corrected" in out.splitlines()[0]
    assert re.search(
        r"^hint: to halve the confidence interval of FD .*, use about \d+ generated and \d+ reference",
        err,
        re.MULTILINE,
    )


@pytest.mark.slow
def test_stats_then_score(image_folders, tmp_path):
    assert run("stats", image_folders[1], tmp_path / "b.npz", *OFFLINE)[:2] == (
        0,
        f"{tmp_path / 'b.npz'}: 8 images, 1,280 dimensions\n",
    )
    direct = json.loads(run("score", *image_folders, *OFFLINE, "--json")[1])
    stored = json.loads(run("score", image_folders[0], tmp_path / "b.npz", *OFFLINE, "--json")[1])
    assert stored["scores"]["fd"]["value"] == pytest.approx(direct["scores"]["fd"]["value"], rel=1e-6)
    code, _, err = run("stats", image_folders[1], tmp_path / "b.npz", *OFFLINE)
    assert code == 2
    assert "--force" in err


def test_invalid_requests_exit_with_2(image_folders, tmp_path):
    generated, reference = image_folders
    (tmp_path / "empty").mkdir()
    for arguments, words in (
        (("score", generated, tmp_path / "absent"), [tmp_path / "absent"]),
        (("score", generated, tmp_path / "empty"), [tmp_path / "empty", "empty"]),
        (("score", generated), ["fid", "reference"]),
        (("score", generated, reference, "--nonsense"), ["--nonsense"]),
        (("nonsense",), ["nonsense"]),
        (("score", "x" * 400, reference), ["x" * 40]),
        (("stats", generated, tmp_path / "absent" / "s.npz", *OFFLINE), [tmp_path / "absent"]),
        (("stats", generated, tmp_path / "s.txt", *OFFLINE), ["s.txt", ".npz"]),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), arguments
        assert all(str(word) in err for word in words), (words, err)


@pytest.mark.slow
def test_bad_image_ends_the_run_with_3_or_is_skipped(tmp_path, image_folders):
    folder = make_image_folder(tmp_path / "a")
    Image.new("RGB", (90, 90)).save(folder / "bad.jpg")
    (folder / "bad.jpg").write_bytes((folder / "bad.jpg").read_bytes()[:400])
    code, out, err = run("score", folder, image_folders[1], *OFFLINE)
    assert (code, out) == (3, "")
    assert "bad.jpg" in err
    code, out, err = run("score", folder, image_folders[1], *OFFLINE, "--on-bad-image", "skip", "--json")
    assert code == 0
    assert "bad.jpg" in json.loads(out)["scores"]["fd"]["skipped_images"][0]


def test_stats_names_the_first_skipped_images_and_lists_all_of_them_in_its_file(tmp_path, toy_options):
    folder, out_file = make_image_folder(tmp_path / "a"), tmp_path / "a.npz"
    for number in range(5):
        (folder / f"bad{number}.png").write_bytes(b"no image")
    options = [text for name, value in toy_options.items() for text in (f"--{name}", value)]
    code, _, err = run("stats", folder, out_file, *options, "--on-bad-image", "skip")
    assert code == 0, err
    (line,) = err.splitlines()
    assert line.startswith("warning: skipped 5 images that could not be decoded: ")
    assert line.endswith(f"; and 2 more ({out_file} lists all of them under skipped_images)")
    assert len(read_statistics(out_file).skipped_images) == 5


def test_control_characters_in_file_names_are_escaped(tmp_path, image_folders):
    folder = make_image_folder(tmp_path / "a")
    (folder / "evil\x1b[31m.png").write_text("broken")
    code, _, err = run("score", folder, image_folders[1], *OFFLINE)
    assert code == 3
    assert "\x1b" not in err
    assert "\\x1b[31m" in err


def test_missing_weights_name_the_file_and_an_alternative(image_folders, tmp_path):
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME")}
    code, _, err = run(
        "score", *image_folders, **home, FRECHET_WEIGHTS="", https_proxy="http://127.0.0.1:9", no_proxy=""
    )
    assert code == 2
    assert "pt_inception-2015-12-05-6726825d.pth" in err
    assert "--extractor efficientnet-lite0" in err


@pytest.mark.subprocess
def test_interrupt_exits_with_130_and_leaves_no_output(tmp_path):
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


@pytest.mark.subprocess
def test_closed_pipe_does_not_fail_the_run(image_folders, tmp_path):
    command = f"{sys.executable} -m frechet score {image_folders[0]} {image_folders[1]} {' '.join(OFFLINE)} --json --output {tmp_path}/s.json"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Exception" not in done.stderr
    assert (tmp_path / "s.json").exists()


@pytest.mark.subprocess
def test_full_output_device_exits_with_3():
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m frechet doctor > /dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "No space left" in done.stderr


@pytest.mark.slow
def test_doctor_lists_extractors_and_reports_unusable_weights(tmp_path, weights):
    code, out, err = run("doctor", FRECHET_WEIGHTS=str(weights))
    assert (code, err) == (0, "")
    assert out.startswith("`frechet score A B` will work.\n")
    assert re.search(r"^ *ok  cpu: .* cores$", out, re.MULTILINE)
    assert all(re.search(rf"^ *(ok|--)  {name}: ", out, re.MULTILINE) for name in EXTRACTORS)
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME")}
    code, out, err = run("doctor", **home, FRECHET_WEIGHTS="")
    assert (code, err) == (2, "")  # the default score needs a download
    verdict = out.splitlines()[0]
    assert verdict.startswith("`frechet score A B` needs the Inception weights, which were not found")
    assert "frechet weights fetch inception" in verdict
    assert "--extractor efficientnet-lite0" in verdict
    assert re.search(r"^ *ok .*efficientnet-lite0", out, re.MULTILINE)
    (tmp_path / "junk.pth").write_text("junk")
    code, out, _ = run("doctor", FRECHET_WEIGHTS=str(tmp_path / "junk.pth"))
    assert code == 2
    assert out.startswith(f"`frechet score A B` will fail because {tmp_path / 'junk.pth'} cannot be read")
    assert re.search(r"^ *-- .*inception", out, re.MULTILINE)


@pytest.mark.parametrize("command", [[], ["score"], ["stats"], ["demo"], ["doctor"]])
def test_every_command_has_help(command):
    code, out, _ = run(*command, "--help")
    assert code == 0
    assert "Usage: frechet" in out


@pytest.mark.parametrize("name", ["score", "stats", "power", "diagnose", "verify", "race"])
def test_help_lists_every_option_once_under_a_heading(name):
    out = run(name, "--help")[1]
    headings = re.findall(r"^(\S.*):$", out, re.MULTILINE)
    assert headings == [
        heading
        for heading in ("Options", "Sampling design", "Features and execution", "Output")
        if heading != "Sampling design" or name not in ("diagnose", "verify", "race")
    ]
    listed = re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)
    options = [option for option in frechet.get_command(None, name).params if option.param_type_name == "option"]
    assert sorted(listed) == sorted(option.opts[0] for option in options)
    assert "--seed" in out.partition("Features and execution:")[2].partition("\n\n")[0]
    assert "--progress" in out.partition("Output:")[2]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("race", ["--num-images", "20"]),
        ("power", ["--per-class"]),
        ("power", ["--repeat", "2"]),
        ("power", ["--explain", "5"]),
        ("power", ["--splits", "5"]),
        ("power", ["--held-out", "x"]),
        ("power", ["--interval", "none"]),
    ],
)
def test_options_that_make_no_sense_for_a_command_are_not_offered(name, options):
    assert f"  {options[0]} " not in run(name, "--help")[1]
    arguments = {"race": ("a", "b", "--reference", "c"), "power": ("a", "b", "--detect", "1")}[name]
    code, _, err = run(name, *arguments, *options)
    assert code == 2
    assert f"No such option '{options[0]}'" in err


def test_docs_name_every_command_and_flag():
    readme = (ROOT / "README.md").read_text() + "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    for name in frechet.list_commands(None):
        assert f"frechet {name}" in readme
        for option in frechet.get_command(None, name).params:
            for flag in option.opts:
                assert not flag.startswith("--") or f"`{flag}" in readme, flag


def test_output_and_report_must_be_different_files(image_folders, tmp_path):
    page = tmp_path / "page.html"
    code, _, err = run("score", *image_folders, *OFFLINE, "--report", page, "--output", page)
    assert (code, page.exists()) == (2, False)
    assert "--output" in err
    assert "--report" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "{}", "b.json"),
        ("verify", "{}", "a", "b"),
        ("reference", "identify", "{}"),
        ("reference", "add", "mine", "{}"),
        ("score", "a", "b", "--protocol", "{}"),
    ],
)
def test_the_nearest_name_of_a_missing_file_is_suggested(tmp_path, arguments):
    suffix = {"compare": ".json", "verify": ".json", "score": ".toml"}.get(arguments[0], ".npz")
    (tmp_path / f"run-one{suffix}").write_text("")
    path = tmp_path / f"run-ome{suffix}"
    code, _, err = run(*(each.format(path) for each in arguments), XDG_DATA_HOME=str(tmp_path))
    assert code == 2
    assert f"no such file: {path}. Did you mean {tmp_path / 'run-one'}{suffix}?" in err

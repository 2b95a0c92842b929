"""Shell completion: what the scripts of bash, zsh and fish ask for, and a real bash."""

import shutil
import subprocess
import sys

import pytest
from helpers import run

from frechet.metrics import METRICS


def complete(line, shell="bash"):
    """Return the completions of the last word as (type or value, ...) lines, as the script of the shell requests them."""
    words = line.split(" ")
    variables = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        variables["COMP_CWORD"] = words[-1]  # fish passes the word itself
    code, out, err = run(**variables, _FRECHET_COMPLETE=f"{shell}_complete")
    assert (code, err) == (0, "")
    return out.split("\n")[:-1] if out != "\n" else []


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("frechet sc", ["plain,score"]),
        ("frechet score a b --preprocessi", ["plain,--preprocessing"]),
        ("frechet score a b --extractor effi", ["plain,efficientnet-lite0"]),
        ("frechet score a b --preprocessing cle", ["plain,clean"]),
        ("frechet score a b --metrics fid,preci", ["plain,fid,precision"]),
        ("frechet score a b --on-bad-image s", ["plain,stop", "plain,skip"]),
        ("frechet score a b --progress p", ["plain,plain"]),
        ("frechet score sam", ["file,sam"]),
        ("frechet stats images/ out", ["file,out"]),
        ("frechet compare ste", ["file,ste"]),
        ("frechet weights fet", ["plain,fetch"]),
        ("frechet zz", []),
    ],
)
def test_bash_completes_commands_options_names_and_files(line, expected):
    assert complete(line) == expected


def test_all_metrics_are_offered():
    assert {line.partition(",")[2] for line in complete("frechet score a b --metrics ")} == set(METRICS)


def test_zsh_and_fish_show_the_summary_of_a_command():
    assert complete("frechet sco", "zsh") == ["plain", "score", "Score generated images against reference images."]
    assert complete("frechet sco", "fish") == ["plain,score\tScore generated images against reference images."]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script_that_it_accepts(shell, tmp_path):
    code, script, _ = run(_FRECHET_COMPLETE=f"{shell}_source")
    assert code == 0
    assert f"{shell}_complete" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.subprocess
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_after_evaluating_the_script(tmp_path):
    (tmp_path / "frechet").write_text(f'#!/bin/sh\nexec {sys.executable} -m frechet "$@"\n')
    (tmp_path / "frechet").chmod(0o755)
    commands = f"""
        export PATH={tmp_path}:$PATH
        eval "$(_FRECHET_COMPLETE=bash_source frechet)"
        complete -p frechet
        COMP_WORDS=(frechet score a b --extr); COMP_CWORD=4
        _frechet_completion frechet; echo "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "--norc", "-c", commands], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "--extractor"
    assert "_frechet_completion" in done.stdout

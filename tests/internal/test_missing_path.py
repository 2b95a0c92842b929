"""A path that does not exist is described with what was probably meant."""

from pathlib import Path

from frechet._internal.missing_path import describe_missing_path


def test_a_misspelt_name_is_corrected(tmp_path):
    (tmp_path / "generated").mkdir()
    message = describe_missing_path(tmp_path / "genrated")
    assert message.startswith(f"no such file or folder: {tmp_path / 'genrated'}")
    assert f"Did you mean {tmp_path / 'generated'}?" in message


def test_the_first_missing_part_of_a_path_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    message = describe_missing_path(tmp_path / "run" / "samples" / "0.png", "file")
    assert message.startswith("no such file: ")
    assert f"The folder {tmp_path / 'run'} does not contain samples" in message


def test_the_missing_name_is_not_repeated(tmp_path, monkeypatch):
    assert describe_missing_path(tmp_path / "zebra", "file") == f"no such file: {tmp_path / 'zebra'}. Correct the path."
    monkeypatch.chdir(tmp_path)
    assert describe_missing_path(Path("zebra")).count("zebra") == 1


def test_a_relative_path_is_looked_up_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path) in describe_missing_path(Path("photos"))


def test_a_name_that_only_shares_its_suffix_is_not_suggested(tmp_path):
    (tmp_path / "ema.json").touch()
    assert "Did you mean" not in describe_missing_path(tmp_path / "missing.json", "file")


def test_the_file_of_another_checkpoint_is_not_suggested(tmp_path):
    (tmp_path / "step-2000.json").touch()
    assert "Did you mean" not in describe_missing_path(tmp_path / "step-3000.json", "file")
    assert f"Did you mean {tmp_path / 'step-2000.json'}?" in describe_missing_path(tmp_path / "stp-2000.json", "file")


def test_a_pattern_without_a_match_is_named_as_one(tmp_path):
    (tmp_path / "step-2000.json").touch()
    message = describe_missing_path(tmp_path / "step-*.jsn", "file")
    assert message.endswith(f"No name in {tmp_path} matches the pattern step-*.jsn; correct the pattern.")

"""Output files are complete or absent, whoever else writes into the folder."""

import functools
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import make_image_folder

from frechet._internal.atomic_write import atomic_write, delete_partial_files
from frechet.errors import RunError


def get_mode(path):
    return path.stat().st_mode & 0o777


def test_processes_with_the_same_id_do_not_share_a_temporary_file(tmp_path, monkeypatch):
    """In containers, the first process always has the id 1."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "out.json"
    with atomic_write(path, force=True) as one:
        one.write_text("one")
        with atomic_write(path, force=True) as other:
            other.write_text("other")
        assert path.read_text() == "other"
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert [*tmp_path.iterdir()] == [path]


def test_planted_links_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tokens = iter(["planted", "free"])
    monkeypatch.setattr("secrets.token_hex", lambda _size: next(tokens))
    for name in (f".out.json.{os.getpid()}.partial", ".frechet-planted.partial"):
        (tmp_path / name).symlink_to(victim)
    with atomic_write(tmp_path / "out.json") as temporary_path:
        temporary_path.write_text("result")
    assert victim.read_text() == "precious"
    assert (tmp_path / "out.json").read_text() == "result"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o400])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "out.json"
    path.touch()
    path.chmod(mode)
    with atomic_write(path, force=True) as temporary_path:
        assert get_mode(temporary_path) == 0o600  # nobody else reads it in the meantime
        temporary_path.write_text("result")
    assert (get_mode(path), path.read_text()) == (mode, "result")


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "out.json"):
            pass
    finally:
        os.umask(before)
    assert get_mode(tmp_path / "out.json") == 0o640


def test_without_force_the_file_of_another_process_is_kept(tmp_path):
    path = tmp_path / "out.json"

    def write():
        with atomic_write(path) as temporary_path:
            temporary_path.write_text("mine")
            path.write_text("another's")  # after the check at the start

    with pytest.raises(RunError, match=r"out\.json was not written.*exists"):
        write()
    assert path.read_text() == "another's"
    assert [*tmp_path.iterdir()] == [path]


def test_a_file_system_without_hard_links_is_supported(tmp_path, monkeypatch):
    def fail(*_paths):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    with atomic_write(tmp_path / "out.json") as temporary_path:
        temporary_path.write_text("result")
    assert (tmp_path / "out.json").read_text() == "result"


@pytest.mark.parametrize("force", [False, True])
def test_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch, force):
    calls = []
    for name in ("fsync", "replace", "link"):

        def record(call, *arguments):
            calls.append(call.__name__)
            return call(*arguments)

        monkeypatch.setattr(os, name, functools.partial(record, getattr(os, name)))
    with atomic_write(tmp_path / "out.json", force=force) as temporary_path:
        temporary_path.write_text("result")
    assert calls == ["fsync", "replace" if force else "link", "fsync"]


def test_names_of_the_maximum_length(tmp_path):
    path = tmp_path / ("x" * 255)
    with atomic_write(path) as temporary_path:
        temporary_path.write_text("result")
    assert path.read_text() == "result"


def test_only_temporary_files_are_deleted(tmp_path):
    for name in (".frechet-0123.partial", "a.partial", ".hidden"):
        (tmp_path / name).touch()
    delete_partial_files(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.partial"]


NAMESPACES = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount")
needs_namespaces = pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode,
    reason="needs unprivileged user namespaces",
)
WRITER = """
import os, sys
from pathlib import Path
from frechet._internal.atomic_write import atomic_write, delete_partial_files
assert os.getpid() == 1
for _ in range(60):
    with atomic_write(Path(sys.argv[1]), force=True) as temporary_path, open(temporary_path, "wb") as file:
        for _ in range(16):
            file.write(sys.argv[2].encode() * 4096)
            file.flush()
    assert len(set(Path(sys.argv[1]).read_bytes())) == 1
"""


@pytest.mark.subprocess
@needs_namespaces
def test_two_containers_that_write_one_file(tmp_path):
    writers = [
        subprocess.Popen([*NAMESPACES, sys.executable, "-c", WRITER, tmp_path / "out", letter], stderr=subprocess.PIPE)
        for letter in "ab"
    ]
    errors = [writer.communicate(timeout=60)[1].decode() for writer in writers]
    assert ([writer.returncode for writer in writers], errors) == ([0, 0], ["", ""])
    assert (tmp_path / "out").read_bytes() in (b"a" * 65536, b"b" * 65536)
    assert [*tmp_path.iterdir()] == [tmp_path / "out"]


FULL_DISK = """
set -e; cd "$1"; mkdir disk; mount -t tmpfs -o size=256k tmpfs disk
echo old > disk/old.json; chmod 600 disk/old.json
dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null || true
shift; set +e; "$@"; code=$?
ls -A disk | sort | tr '\\n' ' ' >&2; cat disk/old.json >&2
exit $code
"""


@pytest.mark.subprocess
@pytest.mark.slow
@needs_namespaces
@pytest.mark.parametrize(
    ("arguments", "shows_number"),
    [
        ("score a.npy b.npy --features --output disk/new.json", True),
        ("score a.npy b.npy --features --output disk/old.json --force", True),
        ("score a.npy b.npy --features --report disk/page.html", True),
        ("score a.npy b.npy --features --output disk/new.json --report disk/page.html", True),
        ("score images images --extractor efficientnet-lite0 --work-dir disk/work", False),
        ("stats a.npy disk/s.npz --features", False),
        ("compare run.json other.json --output disk/new.txt", False),
    ],
)
def test_a_full_disk(tmp_path, arguments, shows_number):
    if "--report" in arguments:
        pytest.importorskip("matplotlib")
    make_image_folder(tmp_path / "images", 3)
    random = np.random.default_rng(0)
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random.normal(size=(200, 16)))
    for name in ("run", "other") if arguments.startswith("compare") else ():
        np.save(tmp_path / f"{name}.npy", random.normal(size=(200, 16)))
        score = f"score {name}.npy b.npy --features --output {name}.json".split()
        subprocess.run([sys.executable, "-m", "frechet", *score], cwd=tmp_path, capture_output=True, check=True)
    command = [sys.executable, "-m", "frechet", *arguments.split()]
    done = subprocess.run(
        [*NAMESPACES, "bash", "-c", FULL_DISK, "bash", tmp_path, *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "space left" in done.stderr or "disk is full" in done.stderr
    assert ("FD:" in done.stdout or "bias-corrected" in done.stdout) == shows_number
    left = "filler old.json work old\n" if "--work-dir" in arguments else "filler old.json old\n"
    assert done.stderr.endswith(left)  # nothing was left behind or changed

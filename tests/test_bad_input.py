"""Bad input never gives a number: the command line answers with a message and an exit code, Python with a FrechetError."""

import contextlib
import signal
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import (
    ADDRESSES,
    ARRAYS,
    BAD_FEATURES,
    BAD_STATISTICS,
    FEATURES,
    IMAGES,
    RUNS,
    make_bad_inputs,
)
from helpers import run, run_process
from PIL import Image

import frechet
from frechet.errors import FrechetError

SECONDS = 30  # per case; nearly all take a few milliseconds

FLAGS = {
    "--metrics": ("", ",", "nothing", "fid,", "fid@nothing", "ppl", "fid,fid@"),
    "--splits": ("0", "-1", "x", "1.5", "", "5,,10"),
    "--reference-preprocessing": ("nothing",),
    "--reference-size": ("0", "1", "-5", "x", "1.5"),
    "--generated-crop": ("nothing",),
    "--reference-crop": ("nothing",),
    "--interval": ("", "yes", "95"),
    "--reference-is": ("", "both"),
    "--design": ("", "random"),
    "--cluster-by": ("missing.csv", "note.txt", "garbage.npy"),
    "--strata": ("nothing",),
    "--explain": ("-1", "x", "1.5"),
    "--repeat": ("0", "-1", "x"),
    "--extractor": (
        "",
        ":",
        ":x",
        "nothing",
        "onnx:",
        "onnx:missing",
        "onnx:garbage.npy",
        "a:b",
        "os:nothing",
        "sys:path",
    ),
    "--dims": ("0", "-1", "7", "x"),
    "--preprocessing": ("", "nothing"),
    "--crop": ("nothing", "adm"),
    "--size": ("0", "-1", "x"),
    "--weights": ("missing", "garbage.npy", "empty", "note.txt", "pipe.npz"),
    "--backend": ("", "nothing"),
    "--device": ("", "nothing", "cuda:x"),
    "--precision": ("", "float8"),
    "--batch-size": ("0", "-1", "x", "1.5"),
    "--workers": ("0", "-1", "x"),
    "--num-images": ("0", "1", "-1", "x", "99"),
    "--seed": ("x", "-1", "1.5"),
    "--on-bad-image": ("", "ignore"),
    "--work-dir": ("note.txt",),
    "--engine": ("", "nothing", "torchrun"),
    "--output": ("good", "missing/x.json", "good.npy", "/dev/full"),
    "--report": ("x.txt", "missing/x.html"),
}
COMMANDS = (
    ["nothing"],
    ["score"],
    ["score", "good", "good", "good"],
    ["stats"],
    ["stats", "good"],
    ["stats", "good", "out.txt"],
    ["stats", "good", "missing/out.npz"],
    ["stats", "good", "good.npz"],
    ["stats", "good.npz", "out.npz"],
    ["compare"],
    ["compare", "missing.json"],
    ["compare", "empty"],
    ["compare", "good.npz"],
    ["compare", "pipe.npz"],
    ["compare", "object.json", "--format", "nothing"],
    ["cache", "nothing"],
    ["cache", "prune", "--days", "x"],
    ["cache", "prune", "--days", "-1"],
    ["cache", "prune", "--days", "nan"],
    ["weights", "fetch", "nothing"],
    ["weights", "verify", "missing"],
    ["weights", "verify", "note.txt"],
    ["weights", "verify", "good"],
    ["weights", "verify", "pipe.npz"],
    ["weights", "verify", "--extractor", "nothing"],
    ["reference", "fetch", "nothing"],
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The folder of bad inputs, which is the working folder of these tests."""
    folder = tmp_path_factory.mktemp("inputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield make_bad_inputs(folder)


@pytest.fixture
def toy_flags(toy_options):
    return "--extractor", toy_options["extractor"], "--weights", toy_options["weights"]


def list_command_cases(inputs):
    """Return the arguments of all cases; `None` stands for the flags of the toy extractor."""
    cases = [[*command, None] if command[0] == "stats" else command for command in COMMANDS]
    for index, name in enumerate(inputs):
        other = ["stats", name, "out.npz", None] if index % 2 else ["score", "good", name, None]
        cases += [["score", name, "good", None], other]
    for name in (*BAD_FEATURES, *BAD_STATISTICS):
        cases += [["score", name, "good.npy", "--features"], ["score", "good.npy", name, "--features"]]
    for flag, values in FLAGS.items():
        own = () if flag in ("--extractor", "--weights") else (None,)
        cases += [["score", "good", "good", *own, f"{flag}={value}"] for value in values]
        if flag == "--weights":
            cases[-len(values) :] = [[*case, "--extractor", "toy-name"] for case in cases[-len(values) :]]
    return [*cases, *(["compare", name, "object.json"] for name in RUNS)]


class NoAnswer(BaseException):
    """A case hangs. No handler of errors catches it."""


@contextlib.contextmanager
def time_limit():
    """Interrupt what hangs."""

    def stop(_signal, _frame):
        raise NoAnswer

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judge(code, out, err):
    """Return what is wrong with the answer to a bad request, or None."""
    if code not in (2, 3):
        return f"exit code {code}"
    if out:
        return f"printed {out[:80]!r}"
    if "rror: " not in err or "Traceback" in err:
        return f"stderr {err[-300:]!r}"
    return None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_command_line(inputs, toy_flags):
    wrong, cases = {}, list_command_cases(inputs)
    assert len(cases) >= 150
    for case in cases:
        arguments = [word for each in case for word in (toy_flags if each is None else (each,))]
        try:
            with time_limit():
                problem = judge(*run(*arguments))
        except (Exception, NoAnswer) as error:  # it would be a traceback
            problem = f"{type(error).__name__}: {error}"
        if problem or Path("out.npz").exists():
            wrong[" ".join(map(str, case))[:100]] = problem
            Path("out.npz").unlink(missing_ok=True)
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "missing", "good"],
        ["score", "garbage.npz", "good.npy", "--features"],
        ["score", "pipe.npz", "good.npy", "--features"],
        ["score", "nan-features.npy", "good.npy", "--features"],
        ["compare", "deep.json"],
        ["stats", "no-row.npy", "out.npz", "--features"],
    ],
    ids=" ".join,
)
def test_command_line_in_a_process(inputs, arguments):
    assert inputs
    assert judge(*run_process(*arguments)) is None


class LyingDataset:
    def __len__(self):
        return 5

    def __getitem__(self, index):
        raise OSError("disk error")


class NoLength:
    def __getitem__(self, index):
        raise IndexError(index)


def make_objects():
    """Return bad inputs as (name, function that makes one)."""
    image = Image.fromarray(IMAGES[0])
    values = {
        "0": 0, "1.5": 1.5, "nan": float("nan"), "True": True, "object": object(), "bytes": b"images", "type": int,
        "module": np, "ellipsis": ..., "range": range(5), "empty list": [], "empty dict": {}, "empty tuple": (),
        "set": {1, 2}, "Nones": [None, None], "ints": [1, 2, 3], "names": ["a", "b"], "paths": [Path("a"), Path("b")],
        "dict": {"a": 1}, "memoryview": memoryview(b"abc"), "one PIL image": image, "list of one": [image],
        "one array": [IMAGES[0]], "mixed": [image, None], "float PIL": [image.convert("F")] * 3,
        "32-bit PIL": [image.convert("I")] * 3, "float images": [IMAGES[0] / 255] * 3,
        "2 channels": [IMAGES[0][..., :2]] * 3, "5 channels": [np.zeros((8, 8, 5), np.uint8)] * 3,
        "no pixels": [np.zeros((0, 8, 3), np.uint8)] * 3, "ragged": [[1], [2, 3]], "strings": np.array(["a", "b"]),
        "object array": np.array([None, 1], object), "list of lists": [[1, 2], [3, 4]],
        "lying dataset": LyingDataset(), "no length": NoLength(), "zip of nothing": [()] * 3, "dicts": [{"x": 1}] * 3,
        "tuples of labels": [(1, 2)] * 3, "path": Path("missing"), "empty path": Path("empty"),
    }  # fmt: skip
    values |= {f"array {name}": array for name, array in ARRAYS.items()}
    values |= {f"address {address[:20]!r}": address for address in ADDRESSES}
    makers = {name: lambda value=value: value for name, value in values.items()}
    makers |= {
        "empty iterator": lambda: iter([]),
        "iterator of ints": lambda: iter([1, 2]),
        "function without number": lambda: lambda n: IMAGES[:n],
    }
    return makers


KEYWORDS = {
    "metrics": ("", [], ["nothing"], [None], 3, {"fid": 1}, "fid,,kid", [""]),
    "splits": (0, [0], [-1], ["x"], [], "x", [1.5, None], object()),
    "reference_preprocessing": ("nothing", 3),
    "reference_size": (0, -1, "x", 1.5, [3]),
    "interval": ("", None, 95, True),
    "reference_is": ("", 3),
    "design": ("", None, 3),
    "cluster_by": ("nothing", ""),
    "clusters": ([1], "abc", {"generated": [1]}, 5),
    "explain": (-1, 1.5, "x", None),
    "repeat": (0, -1, 1.5, "x", None),
    "extractor": ("", None, 3, "nothing", ":", "onnx:", object(), len, "os:nothing"),
    "dims": (0, -1, "x", 7, 1.5),
    "preprocessing": ("", "nothing", 3),
    "crop": ("nothing", 3),
    "weights": ("missing", "note.txt", "empty"),
    "backend": ("", None, "nothing", 3),
    "device": ("", "nothing", 3, None),
    "precision": ("", "float8", None, 3),
    "batch_size": (0, -1, 1.5, "x"),
    "workers": (0, -1, 1.5, "x"),
    "num_images": (0, 1, -1, 1.5, "x", 99),
    "seed": (-1, 1.5, "x", None),
    "on_bad_image": ("", None, "ignore"),
    "work_dir": ("note.txt",),
    "engine": ("", None, "nothing"),
    "unknown": (1,),
}


def list_python_cases(options):
    """Return (name, call) of all cases."""
    cases = []
    for name, make in make_objects().items():
        cases += [
            (f"generated {name}", lambda make=make: frechet.score(make(), IMAGES, **options)),
            (f"reference {name}", lambda make=make: frechet.score(IMAGES, make(), **options)),
            (f"collect {name}", lambda make=make: frechet.collect(make(), **options)),
        ]
    for name, array in BAD_FEATURES.items():
        cases += [
            (f"features {name}", lambda array=array: frechet.score(array, FEATURES, features=True)),
            (f"reference features {name}", lambda array=array: frechet.score(FEATURES, array, features=True)),
        ]
    for keyword, values in KEYWORDS.items():
        for value in values:
            given = {**options, keyword: value}
            cases.append((f"{keyword}={value!r}", lambda given=given: frechet.score("good", "good", **given)))
    for name in (*BAD_STATISTICS, "good", "note.txt", "missing", ""):
        cases.append((f"read_statistics {name}", lambda name=name: frechet.read_statistics(name)))
    for name in RUNS:
        cases.append((f"compare_runs {name}", lambda name=name: frechet.compare_runs([name, "object.json"])))
    return cases


def judge_call(call):
    """Return what is wrong with the answer to a bad call, or None."""
    try:
        with time_limit():
            result = call()
    except FrechetError:
        return None
    except TypeError as error:  # an argument of the wrong type, which is named
        return None if "frechet." in str(error) or "keyword" in str(error) else f"TypeError: {error}"
    except (Exception, NoAnswer) as error:
        return f"{type(error).__name__}: {error}"
    return f"returned {result!r}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_python(inputs, toy_options):
    assert inputs
    cases = list_python_cases(toy_options)
    assert len(cases) >= 200
    wrong = {}
    for name, call in cases:
        if problem := judge_call(call):
            wrong[name] = problem
    assert wrong == {}

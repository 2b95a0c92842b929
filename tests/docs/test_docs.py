"""The documentation is true: its commands run, its links resolve, its figures are those of the benchmarks."""

import contextlib
import functools
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import help_pages
import numpy as np
import pytest
from forks import ForkedProgram
from helpers import make_image_folder
from PIL import Image
from small_networks import write_thin_weights

from frechet.cli.main import frechet
from frechet.metrics import METRICS

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
METRIC_PAGES = sorted((ROOT / "docs" / "metrics").glob("*.md"))
PAGES_WITH_TABLES = [
    *sorted(ROOT.glob("*.md")),
    *(path for name in ("docs", "benchmarks", "examples") for path in sorted((ROOT / name).rglob("*.md"))),
]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.*") if path.suffix in (".py", ".sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_benchmarks_are_explained(path):
    assert path.name in (ROOT / "benchmarks" / "README.md").read_text()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_describe_the_machine_without_paths(path):
    result = json.loads(path.read_text())
    assert {"date", "processor", "cores", "versions"} <= result["machine"].keys()
    assert not re.search(r'"(/|~|[A-Z]:\\)', path.read_text())


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
def test_precision_page_quotes_its_result():
    page = (ROOT / "docs" / "precision.md").read_text()
    pairs = json.loads((ROOT / "benchmarks" / "results" / "precision.json").read_text())["pairs"]
    for result in pairs.values():
        for value in result["distance"].values():
            assert f"{value:.3f}" in page
            change = value / result["distance"]["float32 generated, float32 reference"] - 1
            assert change == 0 or f"{100 * change:+.1f} %" in page
        assert f"{result['same_images_in_two_precisions']:.3f}" in page


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
@pytest.mark.parametrize(
    ("section", "result"), [("Photographs", "metric_sensitivity-photographs-128"), ("Thumbnails", "metric_sensitivity")]
)
def test_benchmarks_page_quotes_the_sensitivity_of_metrics(section: str, result: str):
    page = (ROOT / "docs" / "benchmarks.md").read_text().partition(f"### {section}")[2].partition("\n##")[0]
    measured = json.loads((ROOT / "benchmarks" / "results" / f"{result}.json").read_text())["metrics"]
    lines = {line.split("`")[1]: line for line in page.splitlines() if "| `" in line}
    assert lines.keys() == measured.keys()
    for key, row in measured.items():
        for cell in row.values():
            assert f"{', '.join(f'{value:.3g}' for value in cell['values'][1:])}: {cell['trend']}" in lines[key]


@pytest.mark.parametrize("path", PAGES_WITH_TABLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rows_of_tables_have_as_many_cells_as_the_header(path):
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^[ ]*\|.*\n?)+", text, re.MULTILINE):
        header, *rows = [re.split(r"(?<!\\)\|", line.strip()) for line in table.splitlines()]
        assert len(rows) > 1, f"no table: {table}"
        assert not [row for row in rows if len(row) != len(header)]


def test_metrics_page_lists_all_metrics():
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(METRICS) == set(re.findall(r"^\| \[`([^`]*)`\]\(", page, re.MULTILINE))


def test_every_metric_has_a_page_that_the_overview_links():
    overview = (ROOT / "docs" / "metrics.md").read_text()
    names = set()
    for path in METRIC_PAGES:
        assert f"(metrics/{path.name})" in overview
        facts = re.search(r"^\| names? \| (.*)$", path.read_text(), re.MULTILINE).group(1)
        names |= set(re.findall(r"`([^`]*)`", facts))
        for heading in ("## Example", "## Pitfalls", "## Source"):
            assert heading in path.read_text(), path.name
    assert names - {"frechet.perceptual_path_length"} == set(METRICS) - {"ppl"}


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
def test_migration_pages_quote_their_agreement():
    tools = json.loads((ROOT / "benchmarks" / "results" / "agreement.json").read_text())["tools"]
    pages = {path.stem: path.read_text() for path in (ROOT / "docs" / "coming-from").glob("*.md")}
    assert tools.keys() == pages.keys() | {"jax-fid-parallel"}
    for tool, rows in tools.items():
        page = " ".join(pages[tool.removesuffix("-parallel")].split())
        for row in rows.values():
            assert f"{row['frechet']:.6f}" in page, (tool, row)
            assert f"{row['theirs']:.6f}" in page, (tool, row)


FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [path for path in PAGES if path.name not in ("cli.md", "frameworks.md")]  # test_frameworks.py runs the latter
PAGES = [path for path in PAGES if {"sh", "python"} & {language for language, _ in FENCE.findall(path.read_text())}]
PAGES = [[path] for path in PAGES if path not in METRIC_PAGES] + [METRIC_PAGES]  # pages that one process runs
SKIPPED = {  # start of a line that is not run -> reason
    "pip install": "the environment of the tests is installed already",
    'eval "$(_FRECHET_COMPLETE=': "for interactive shells; tests/cli/test_completion.py tries it",
    "_FRECHET_COMPLETE=": "the same",
    "frechet demo": "tests/cli/test_demo.py runs it",
    "make ": "builds an environment; `make test` runs these tests",
}
OPTIONAL = ("tensorboard", "mlflow", "wandb")  # loggers: a snippet that imports one runs if it is installed
BEFORE = {  # page -> code before its Python: the reader's own model and data, small
    "reference.md": """
import functools, frechet, torch, torchmetrics.functional.image
# LPIPS of torchmetrics takes its VGG16 from torchvision, which does not work with every build of PyTorch
torchmetrics.functional.image.learned_perceptual_image_patch_similarity = lambda a, b, net, reduction: (a - b).square().mean((1, 2, 3))
frechet.perceptual_path_length = functools.partial(frechet.perceptual_path_length, num_samples=8)
model = lambda latents: latents[:, :192].reshape(-1, 3, 8, 8)
frechet.collect("reference/", extractor="efficientnet-lite0").save("reference.npz", force=True)
images, imagesA, imagesB = (torch.rand(n, 3, 32, 32, requires_grad=True) for n in (2, 2, 3))
dataset = list(torch.rand(10, 3, 32, 32) * 2 - 1)
""",
    "jax.md": """
import functools, types, jax, numpy as np, frechet, frechet.jax, frechet.losses.jax
frechet.Statistics.save = functools.partialmethod(frechet.Statistics.save, force=True)
frechet.jax.network = functools.partial(frechet.jax.network, dims=4)        # the whole network takes a minute to compile
frechet.losses.jax.make_reference = functools.partial(frechet.losses.jax.make_reference, dims=4)
frechet.losses.jax.make_population = lambda reference, size, f=frechet.losses.jax.make_population: f(reference, size=8)
frechet.collect("reference/", dims=4).save("reference.npz", force=True)
jax.distributed.initialize = lambda *_: None                                # one process is all hosts
n, steps = 25_000, 1                                                        # so that there are two rounds, of 4 images each
images = jax.random.uniform(jax.random.key(0), (4, 24, 24, 3))
model = types.SimpleNamespace(apply=lambda params, noise: (noise if noise.ndim == 4 else images) * params)
params, state, noise, train = 0.5, None, images, lambda params, state, batch: (params, state)
batches = iter([None, *(np.zeros((n, 24, 24, 3), np.uint8) for n in (4, 4, 3))])  # one to train on, and then images
my_share_of_the_batches = [np.full((4, 24, 24, 3), 9, np.uint8)]
""",
}
NAMING_DIMS = {"pytorch-fid.md"}  # pages that ask for the layer with 2048 features
AFTER = {  # page -> code after its Python: what its variables must be
    "training.md": "\nassert all(type(number) is float for number in numbers.values()), numbers"
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the images and statistics that the pages use, and an environment with seeded weights."""
    folder = tmp_path_factory.mktemp("desk")
    weights = write_thin_weights(tmp_path_factory.mktemp("weights") / "thin.pth", head=True)
    for seed, name in enumerate(("samples", "reference", "other-samples", "photos")):
        make_image_folder(folder / name, 10, seed=seed, size=(20, 24))  # torch-fidelity makes 10 splits
    for seed, name in enumerate(("samples", "reference", "held-out")):
        images = np.random.default_rng(seed).integers(0, 256, (66, 8, 8, 3), dtype=np.uint8)  # C_T needs more than 60
        np.save(folder / f"{name}.npy", images)
    files = sorted((folder / "samples").iterdir())
    np.savez(folder / "samples.npz", arr_0=np.stack([np.asarray(Image.open(path)) for path in files]))
    for side in ("samples", "reference"):
        shutil.make_archive(folder / side, "zip", folder / side)
    (folder / "shards").mkdir()
    for number in range(8):
        with tarfile.open(folder / "shards" / f"{number:03d}.tar", "w") as shard:
            shard.add(files[number % len(files)], f"{number}.png")
    environment = {**os.environ, "FRECHET_WEIGHTS": str(weights), "PYTHONWARNINGS": "ignore"}
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests" / "support")))
    environment |= {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(folder / "cache")}
    run_fences([("sh", "frechet stats reference/ reference.npz")], "", folder, environment)
    with np.load(folder / "reference.npz") as arrays:
        np.savez(folder / "theirs.npz", mu=arrays["mu"], sigma=arrays["sigma"])
        np.save(folder / "features.npy", arrays["rows"] + np.float32(0.01))
        np.savez(folder / "statistics.npz", mu=arrays["mu"], sigma=arrays["sigma"])
        adm = {"mu": arrays["mu"], "sigma": arrays["sigma"], "mu_s": np.zeros(2023), "sigma_s": np.eye(2023)}
    shutil.copy(folder / "samples.npz", folder / "images.npz")
    toml = (ROOT / "docs" / "protocols.md").read_text().partition("```toml\n")[2].partition("```")[0]
    (folder / "birds.toml").write_text(toml.replace("10000", "10"))
    with np.load(folder / "samples.npz") as arrays:
        np.savez(folder / "VIRTUAL_imagenet256_labeled.npz", **adm, arr_0=arrays["arr_0"][::-1])
    score = "frechet score features.npy reference.npz --features --output step-"
    run_fences([("sh", f"{score}{step}.json") for step in (1, 2)], "", folder, environment)
    return folder, environment


@pytest.fixture(scope="module")
def site(desk):
    """The URL of a server for the folder, instead of https://example.org/."""
    handler = functools.partial(_Quiet, directory=str(desk[0]))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def copyfile(self, *files):
        with contextlib.suppress(BrokenPipeError):  # the client has read the header and needs no more
            super().copyfile(*files)


RUNNER = """
import json, os, runpy, sys
from frechet.features.registry import EXTRACTORS
from small_networks import make_small_rows, make_thin_rows
# Whether a page runs does not depend on the size of the network, and its values are not compared
EXTRACTORS._entries.update(make_small_rows() if "WHOLE_INCEPTION" in os.environ else make_thin_rows())
commands, python = json.loads(sys.argv[1])
for words in commands:
    print(*words, file=sys.stderr)
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
exec(compile(python, "the Python of the page", "exec"))
"""


def run_fences(fences, before, folder, environment, after=""):
    """Run the commands of a page, and then its Python, in one process: loading the libraries takes most of the time."""
    lines = [line for language, code in fences if language == "sh" for line in code.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", *SKIPPED))]
    commands = [list(_words(line.removeprefix("python -m "), folder)) for line in lines]
    python = "\n".join(code for language, code in fences if language == "python" and not _lacks_a_logger(code))
    code = json.dumps([commands, before + python + after if python else ""])
    ForkedProgram(folder / "output.txt", RUNNER, code, cwd=folder, environment=environment).finish()


def _words(line, folder):
    """Split a line as a shell does, and expand its patterns."""
    for word in shlex.split(line, comments=True):
        yield from sorted(path.name for path in folder.glob(word)) if "*" in word else [word]


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.parametrize("paths", PAGES, ids=lambda paths: paths[0].parent.name if len(paths) > 1 else paths[0].stem)
def test_commands_and_snippets_run(paths, desk, site, tmp_path, request):
    folder, environment = desk
    if paths[0].name in NAMING_DIMS:
        weights = request.getfixturevalue("weights_with_head")
        environment = {**environment, "FRECHET_WEIGHTS": str(weights), "WHOLE_INCEPTION": "1"}
    text = "\n".join(path.read_text() for path in paths)
    for given, used in (
        ("https://example.org/", site),
        ("{000..127}", "{000..007}"),
        ("PHOTOGRAPHS, 2000", "PHOTOGRAPHS, 9"),
    ):
        text = text.replace(given, used)
    for word, package in (
        ("torch", "torchmetrics"),
        ("jax.", "jax"),
        ("--report", "jinja2"),
        ("PHOTOGRAPHS", "skimage"),
    ):
        if word in text:
            pytest.importorskip(package)
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    if "\nfrechet stats reference/ reference.npz" in text:
        (here / "reference.npz").unlink()
    run_fences(FENCE.findall(text), BEFORE.get(paths[0].name, ""), here, environment, AFTER.get(paths[0].name, ""))


FOREIGN = ("--nproc-per-node", "--nnodes", "--rdzv")  # flags of torchrun
PROSE = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if path.name != "cli.md"]
PROSE = [path for path in PROSE if path.parent.name != "coming-from"]  # pages that name the flags of other tools


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_commands_and_flags_in_sentences_exist(path):
    commands = {name: frechet.get_command(None, name) for name in frechet.list_commands(None)}
    flags = {
        flag
        for command in _iter_with_subcommands(commands.values())
        for parameter in command.params
        for flag in parameter.opts
    }
    for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text())):
        if not code.startswith("python benchmarks/"):
            unknown = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", code)) - flags - {"--help", "--version"}
            assert all(flag.startswith(FOREIGN) for flag in unknown), code
        if name := re.match(r"frechet ([a-z]+)\b", code):
            assert name[1] in commands, code


def _iter_with_subcommands(commands):
    for command in commands:
        yield command
        yield from _iter_with_subcommands(getattr(command, "commands", {}).values())


def _lacks_a_logger(code):
    return any(name in code and importlib.util.find_spec(name) is None for name in OPTIONAL)


def test_command_page_equals_help():
    assert help_pages.PAGE.read_text() == help_pages.render_help_page(), "run python tests/support/help_pages.py"


def test_links_within_the_docs_resolve():
    for path in (ROOT / "docs").rglob("*.md"):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if not target.startswith(("http", "#")):
                assert (path.parent / target.partition("#")[0]).exists(), f"{path.name}: {target}"


def test_faq_asks_and_answers_in_whole_sentences():
    text = (ROOT / "docs" / "faq.md").read_text().partition("\n## ")[2]
    blocks = [block for block in text.split("\n\n") if not block.startswith("## ")][1:]
    for question, answer in itertools.pairwise(blocks):
        if question.startswith("### "):
            assert question.endswith("?"), question
            assert not answer.startswith("#"), question
            assert answer.rstrip()[-1] in ".:", question


@pytest.mark.slow
@pytest.mark.subprocess
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed (dependency group docs)"
)
def test_docs_build_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "site" / "api" / "index.html").stat().st_size > 20_000


def test_the_messages_that_troubleshooting_quotes_exist():
    sources = " ".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    text = re.sub(r'"\s*\n\s*f?"', "", sources)
    quotes = re.findall(r'^\*\*"(.+)"\*\*$', (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(quotes) > 8
    for quote in quotes:
        for piece in re.split(r"\S*\d\S*| inception ", quote):  # values differ
            assert piece.strip(" (") in text, quote


@pytest.mark.skipif(not RESULTS, reason="a source distribution has no benchmarks")
def test_page_on_stopping_quotes_its_result():
    page = (ROOT / "docs" / "stop-sampling.md").read_text().replace("\N{MINUS SIGN}", "-")
    result = json.loads((ROOT / "benchmarks" / "results" / "anytime.json").read_text())
    for row in result["coverage"].values():
        coverage = row["coverage"]
        widths = (row["width_relative_to_one_look"], row["confidence_sequence_width_relative_to_one_look"])
        names = ("anytime", "naive peeking", "asymptotic confidence sequence")
        cells = [
            f"{row['runs']:,}",
            *(f"{100 * coverage[name]:.1f} %" for name in names),
            *(f"{width:.2f}" for width in widths),
        ]
        assert f"| {' | '.join(cells)} |" in page
    for row in result["races"]:
        wrong = [f"{100 * row[name]['wrong']:.1f} %" for name in ("race", "naive peeking")]
        images = f"{row['race']['median_images']:,.0f}"
        saved = [f"{100 * each['saving']:.0f} %" for each in row.get("fixed", {}).values()]
        assert f"| {' | '.join([*wrong, images, *saved])} |" in page

"""No dependency contacts a host, or writes into the home folder, unless the user asks for a download."""

import os
import subprocess
import sys
import types

import pytest

from frechet.errors import WeightsError

# Python runs this module when it starts, in child processes too. It records where a process would connect to.
RECORDER = """
import os, socket, sys

def record(text):
    with open(os.environ["CONTACTS"], "a") as file:
        file.write(text + "\\n")

def audit(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        record(f"{event} {arguments[1:] if event == 'socket.connect' else arguments}")
sys.addaudithook(audit)

def refuse(host, *_args, **_options):
    record(f"getaddrinfo {host}")
    raise socket.gaierror("no names are resolved in this test")
socket.getaddrinfo = refuse
"""

PROGRAMS = {
    "openvino": "import openvino, time; time.sleep(1)",  # Python 3.12 starts no thread while it shuts down
    "score": """
import numpy as np, frechet
images = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
assert frechet.score(*images, extractor="efficientnet-lite0")["fd"].value > 0
""",
    "doctor": "import sys; sys.argv[1:] = ['doctor']; from frechet.cli.main import main; main()",
    "torch": """
import numpy as np, frechet, frechet.losses.torch
import frechet.compat.pytorch_fid, frechet.compat.fastfid, frechet.compat.is_fid
images = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 32, 3), np.uint8)
assert frechet.score(*images, extractor="efficientnet-lite0", backend="torch")["fd"].value > 0
""",
    "jax": "import frechet.jax, frechet.losses.jax, frechet.backends.jax",
    "torchmetrics": "import lightning, frechet.integrations.torchmetrics",
    "hub": "import huggingface_hub; from frechet.networks.hub_weights import find_hub_weights as find\ntry: find('a/b')\nexcept ValueError: pass",
}
REQUIRED = {
    "torch": ("torch",),
    "jax": ("jax",),
    "torchmetrics": ("torchmetrics", "lightning"),
    "hub": ("huggingface_hub",),
    "openvino": ("openvino_telemetry",),
}


def run_recorded(program, tmp_path):
    """Run a program with an empty home; return the contacts that it attempted and the files that it left in its home."""
    home, site, contacts = tmp_path / "home", tmp_path / "site", tmp_path / "contacts.txt"
    home.mkdir()
    site.mkdir()
    contacts.touch()
    (site / "sitecustomize.py").write_text(RECORDER)
    left_out = {
        "CI",
        "TF_BUILD",
        "JENKINS_URL",
        "XDG_CACHE_HOME",
        "JAX_COMPILATION_CACHE_DIR",
    }  # CI: OpenVINO stays quiet
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    path = os.pathsep.join([str(site), *filter(None, sys.path)])
    environment |= {"HOME": str(home), "PYTHONPATH": path, "CONTACTS": str(contacts)}
    environment.setdefault("MPLCONFIGDIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return contacts.read_text().splitlines(), sorted(str(each.relative_to(home)) for each in home.rglob("*"))


@pytest.mark.subprocess
@pytest.mark.slow
@pytest.mark.parametrize("name", ["score", "doctor", "torch", "jax", "torchmetrics", "hub"])
def test_nothing_is_contacted_and_nothing_is_written_into_the_home(tmp_path, name):
    for package in REQUIRED.get(name, ()):
        pytest.importorskip(package)
    assert run_recorded(PROGRAMS[name], tmp_path) == ([], [])


@pytest.mark.subprocess
def test_the_recorder_sees_what_openvino_does_by_itself(tmp_path):
    pytest.importorskip("openvino_telemetry")
    contacts: list[str] = []
    files: list[str] = []
    for attempt in range(5):  # it gives itself a second, which may be too short on a busy machine
        folder = tmp_path / str(attempt)
        folder.mkdir()
        found = run_recorded(PROGRAMS["openvino"], folder)
        contacts, files = contacts + found[0], files + found[1]
        if contacts and files:
            break
    assert any("google-analytics" in contact for contact in contacts)
    assert files


@pytest.mark.parametrize(("setting", "expected"), [(None, "0"), ("1", "1")])
def test_a_ray_cluster_is_started_without_usage_statistics(monkeypatch, setting, expected):
    seen = []
    ray = types.ModuleType("ray")
    ray.is_initialized = lambda: False
    ray.init = lambda **_options: seen.append(os.environ.get("RAY_USAGE_STATS_ENABLED"))
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.delitem(sys.modules, "frechet.execution.ray", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", setting or "")
    if setting is None:
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED")
    from frechet.execution.ray import _connect

    _connect(None)
    assert seen == [expected]
    monkeypatch.delitem(sys.modules, "frechet.execution.ray")


@pytest.mark.parametrize(("given", "is_local"), [("owner/cached", True), ("owner/other", False), (".", True)])
def test_a_model_on_this_machine_is_loaded_without_the_network(tmp_path, monkeypatch, given, is_local):
    """The transformers library asks huggingface.co for updates of cached files unless it is told not to."""
    pytest.importorskip("torch")
    pytest.importorskip("huggingface_hub")
    from frechet.backends.transformers import load_pretrained

    seen = []

    class Model:
        @staticmethod
        def from_pretrained(_name, **options):
            seen.append(options["local_files_only"])
            raise OSError("nothing is loaded in this test")

    repository = tmp_path / "models--owner--cached"
    for name in ("snapshots/abc/model.safetensors", "refs/main"):
        (repository / name).parent.mkdir(parents=True)
        (repository / name).write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(Model=Model))
    with pytest.raises(WeightsError):
        load_pretrained("Model", "x", given, "cpu", {})
    assert seen == [is_local]

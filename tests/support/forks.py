"""Programs in forks of one process that has loaded PyTorch, JAX and OpenVINO, which takes a new process seconds.

For tests that need another process, but not a new one.
"""

import contextlib
import multiprocessing
import os
import runpy
import sys
import warnings
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
# Only modules that start no threads: a fork would not have them. Those that are not installed are left out.
CONTEXT.set_forkserver_preload(
    ["frechet.integrations.torchmetrics", "torch._dynamo", "lightning", "jax", "frechet.backends.openvino"]
)

# `torchrun --nproc-per-node 2` of the program that the first argument names, with ranks that are forks
TORCHRUN = """
import runpy, sys
from torch.distributed import run
from torch.distributed.launcher.api import elastic_launch

del sys.argv[0]

def run_rank():
    runpy.run_path(sys.argv[0], run_name="__main__")

options = ["--nproc-per-node", "2", "--start-method", "fork", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
config, _, _ = run.config_from_args(run.parse_args([*options, sys.argv[0]]))
elastic_launch(config, run_rank)()
"""


class ForkedProgram:
    """A Python program in another process, which writes its output to a file."""

    def __init__(self, output, source, *arguments, cwd=None, environment=None):
        """Start the program.

        Args:
            output: path of the file for stdout and stderr.
            source: the program, as a Path or as text.
            arguments: its command line.
            cwd, environment: by default those of this process.
        """
        self.output = Path(output)
        self.output.touch()
        words = (source, list(map(str, arguments)))
        self.process = CONTEXT.Process(
            target=_run, args=(output, cwd or Path.cwd(), dict(environment or os.environ), *words)
        )
        self.process.start()

    def finish(self, timeout=300):
        """Wait until the program has ended successfully, and return what it wrote."""
        code, written = self.wait(timeout), self.output.read_text()
        assert code == 0, f"exit code {code}\n{written}"
        return written

    def wait(self, timeout=60):
        """Return the exit code of the program, which is negative for a signal; None if it was killed because it did not end."""
        self.process.join(timeout)
        code = self.process.exitcode
        self.kill()
        return code

    def kill(self):
        """End the program, if it has not ended, by SIGKILL."""
        self.process.kill()
        self.process.join()


@contextlib.contextmanager
def run_ranks(folder, source, *arguments, **options):
    """Run a program as two processes, whose first argument is their rank, while the body runs; both must succeed."""
    ranks = [ForkedProgram(folder / f"output-{rank}.txt", source, rank, *arguments, **options) for rank in range(2)]
    try:
        yield ranks
        for rank in ranks:
            rank.finish(timeout=120)
    finally:
        for rank in ranks:  # the other one waits forever if one has failed
            rank.kill()


def _run(output, cwd, environment, source, arguments):
    with open(output, "wb") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    warnings.simplefilter("ignore")
    sys.argv = [str(source) if isinstance(source, Path) else "-c", *arguments]
    if isinstance(source, Path):
        runpy.run_path(str(source), run_name="__main__")
    else:
        exec(compile(source, "<program>", "exec"), {"__name__": "__main__"})

"""The process of `frechet` and `python -m frechet`, from its first moment on."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line. An interrupt ends it without a traceback, even while modules are still being imported."""
    try:
        _reserve_standard_streams()
        _exit_on_second_interrupt()
        from frechet.cli.main import main as run_command_line  # takes a moment, in which users may interrupt

        run_command_line()
    except KeyboardInterrupt:
        if sys.stderr is not None:
            sys.stderr.write("error: interrupted\n")
        sys.exit(130)


def _reserve_standard_streams() -> None:
    """Open the null device in place of closed streams; otherwise the next file to be opened would get their numbers.

    What a library writes to stderr would then end in that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # POSIX: gets the lowest free number


def _exit_on_second_interrupt() -> None:
    """Let the first interrupt stop the run in order and the second one at once, whatever is being cleaned up."""

    def interrupt(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if a shell started it in the background
        signal.signal(signal.SIGINT, interrupt)


if __name__ == "__main__":
    main()

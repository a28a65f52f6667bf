"""The `audioae` command, also as `python -m audioae`."""

import os
import signal
import sys


def keep_streams() -> None:
    """Connect standard streams that are closed to the null device.

    Otherwise the next file that is opened gets their number, and what a C library prints on stderr
    is written into it. `sys.stdin` and `sys.stdout` stay None, which commands report if they need
    them; messages are for nobody.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def run() -> None:
    """Run the command. Ctrl-C while its modules are imported ends the process at once."""
    keep_streams()
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # it may be ignored, by nohup for example
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from audioae.cli import main

    signal.signal(signal.SIGINT, before)
    main(prog_name="audioae")


if __name__ == "__main__":
    run()

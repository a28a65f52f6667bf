"""The `audioae` command, also as `python -m audioae`."""

import signal


def run() -> None:
    """Run the command. Ctrl-C while its modules are imported ends the process at once."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # it may be ignored, by nohup for example
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from audioae.cli import main

    signal.signal(signal.SIGINT, before)
    main(prog_name="audioae")


if __name__ == "__main__":
    run()

"""`python -m audioae` is the `audioae` command."""

from audioae.cli import main

if __name__ == "__main__":
    main(prog_name="audioae")

"""Denoise every recording below a folder and mirror the tree.

python examples/denoise_folder.py samples enhanced

The model is loaded once. `audioae denoise IN -O OUT` does the same with worker processes, resuming
and checks of everything beforehand.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import audioae

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path, help="folder of noisy recordings")
    parser.add_argument("target", type=Path, help="folder for the enhanced recordings")
    options = parser.parse_args()
    sys.exit(1 if denoise_folder(options.source, options.target) else 0)


def denoise_folder(source: Path, target: Path) -> list[Path]:
    """Denoise all files below `source` into `target`; return the files that failed."""
    model = audioae.load_model("speech-16k")
    failed = []
    for file in sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES):
        output = target / file.relative_to(source)
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            result = audioae.denoise_file(file, output, model=model)
        except audioae.AudioaeError as error:  # unreadable, or the output exists
            print(f"{file}: {error}", file=sys.stderr)
            failed.append(file)
        else:
            print(f"{output}: mean attenuation {result.mean_attenuation_db:.1f} dB")
    return failed


if __name__ == "__main__":
    main()

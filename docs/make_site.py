"""Build the documentation site with audio examples on the page of the models.

    python docs/make_site.py [--out site]

Cleans the recordings in samples/ with every denoiser of the package, adds players to a copy of
docs/models.md, and runs `zensical build --strict` on the copy. The audio is not in the repository,
so it always comes from the models that are.
"""

from __future__ import annotations

import argparse
import html
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from audioae.audio import read, write
from audioae.denoising import DenoiseSettings, denoise, ready_engine
from audioae.pretrained import list_denoisers
from audioae.signal.spectrogram import Array

ROOT = Path(__file__).parents[1]
PAGE, FOLDER = "models.md", "audio"
LINKED = ("CHANGELOG.md", "CONTRIBUTING.md", "audioae", "examples")
HEADING = "## Licences of the training data"  # the section before which the examples stand
GRID = (
    '<div style="display: grid; gap: 1rem; '
    'grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr))">'
)
FIGURE = 'style="margin: 0; width: auto; text-align: left"'
CAPTION = 'style="margin: 0 0 0.2rem; max-width: none; font-style: normal"'

Denoise = Callable[[Array, int], Array]


@dataclass(frozen=True)
class Example:
    """A recording of samples/ that is played before and after each model.

    Args:
        file: its name.
        title: what is heard, for the label of the players.
    """

    file: str
    title: str

    @property
    def name(self) -> str:
        """The start of the names of its audio files."""
        return Path(self.file).stem


EXAMPLES = (
    Example("noisy.wav", "a fan and a keyboard, 4 dB SNR, 16 kHz"),
    Example("noisy-44k-stereo.flac", "rain and wind, 8 dB SNR, 44.1 kHz stereo"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the site; exits with the code of zensical."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder of the site [site]")
    out = parser.parse_args(arguments).out.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        prepare(place, shipped_denoisers())
        command = [sys.executable, "-m", "zensical", "build", "--strict"]
        status = subprocess.run(command, cwd=place).returncode
        if status == 0:
            shutil.rmtree(out, ignore_errors=True)
            shutil.move(place / "site", out)
    sys.exit(status)


def shipped_denoisers() -> Iterator[tuple[str, Denoise]]:
    """Every denoiser of the package by name, loaded one after another."""
    settings = DenoiseSettings(quality="fast")
    for entry in list_denoisers():
        engine = ready_engine(entry.name, device="cpu")
        yield entry.name, partial(denoise, model=engine, settings=settings)


def prepare(place: Path, denoisers: Iterator[tuple[str, Denoise]]) -> None:
    """Write to `place` what zensical needs, with the audio and the players."""
    shutil.copy(ROOT / "zensical.toml", place)
    skip = shutil.ignore_patterns("__pycache__", "*.py")
    shutil.copytree(ROOT / "docs", place / "docs", ignore=skip)
    for name in LINKED:
        (place / name).symlink_to(ROOT / name)
    models = write_audio(place / "docs" / FOLDER, denoisers)
    page = place / "docs" / PAGE
    page.write_text(with_players(page.read_text(encoding="utf-8"), models), encoding="utf-8")


def write_audio(folder: Path, denoisers: Iterator[tuple[str, Denoise]]) -> list[str]:
    """Write each example before and after each denoiser as MP3, and return their names."""
    folder.mkdir(parents=True)
    recordings = {each: read(ROOT / "samples" / each.file) for each in EXAMPLES}
    for example, (waveform, rate) in recordings.items():
        _write(folder / f"{example.name}.mp3", waveform, rate)
    models = []
    for model, clean in denoisers:
        models.append(model)
        for example, (waveform, rate) in recordings.items():
            _write(folder / f"{example.name}-{model}.mp3", clean(waveform, rate), rate)
    return models


def with_players(page: str, models: Sequence[str]) -> str:
    """The page of the models with a section of players.

    Raises:
        ValueError: the page has no section before which the players stand.
    """
    if HEADING not in page:
        raise ValueError(f"docs/{PAGE} has no heading {HEADING!r}")
    return page.replace(HEADING, "\n".join(_section(models)) + f"\n{HEADING}", 1)


def _section(models: Sequence[str]) -> Iterator[str]:
    yield "## Listen\n"
    yield (
        "Two recordings of `samples/`, with synthetic speech, before and after each denoiser in "
        'the quality "fast", as in a live stream. Files get the quality "best" by default, in '
        "which `speech-16k` sounds like `speech-offline-16k`. To compare your own recordings in "
        "sync and at the same loudness, use `audioae report` or `audioae serve`.\n"
    )
    for example in EXAMPLES:
        yield f"**{example.title[0].upper()}{example.title[1:]}**\n"
        yield GRID
        yield _player("before", f"{example.name}.mp3", f"Before: {example.title}")
        for model in models:
            link = f'<a href="#{model}">{model}</a>'
            label = f"After {model}: {example.title}"
            yield _player(link, f"{example.name}-{model}.mp3", label)
        yield "</div>\n"


def _player(caption: str, file: str, label: str) -> str:
    return (
        f"<figure {FIGURE}><figcaption {CAPTION}>{caption}</figcaption>"
        f'<audio controls preload="none" src="{FOLDER}/{file}" aria-label="{html.escape(label)}" '
        'style="width: 100%; height: 2.2rem"></audio></figure>'
    )


def _write(path: Path, waveform: Array, rate: int) -> None:
    write(path, np.clip(waveform, -1, 1), rate)


if __name__ == "__main__":
    main()

"""Generate sounds with a variational autoencoder: samples, paths between two, variations of one.

A code `[channels, steps]` of one patch is drawn from the prior N(0, 1), or computed from codes of
recordings. Its features become a waveform with the phase of Griffin-Lim.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audioae.audio import AudioReader
from audioae.errors import AudioFileError, SettingsError, require
from audioae.signal.features import FeatureSettings, finite
from audioae.signal.resample import resample
from audioae.signal.spectrogram import Array
from audioae.storage import output_errors
from audioae.tasks.autoencoder import Codec
from audioae.tasks.pictures import save_figure

DEFAULT_MODEL = "words-16k"
MAX_SOUNDS = 10_000
PEAK = 0.99

Kind = Literal["sample", "between", "around"]


@dataclass(frozen=True)
class Generated:
    """A generated sound.

    Args:
        name: of its file, without the suffix.
        kind: how it was made.
        latent: its code, `[channels, steps]`.
        position: of a path, from 0 (the first recording) to 1 (the second); None for others.
        features: `[bins, frames]`.
        waveform: `[num_samples]`, full scale -1..1.
    """

    name: str
    kind: Kind
    latent: Array
    position: float | None
    features: Array
    waveform: Array


@dataclass(frozen=True)
class WrittenSound:
    """A file that `write_sounds` wrote.

    Args:
        path: the wav file.
        kind, position: see `Generated`.
        sample_rate, num_samples: of the file.
        gain_db: 0, or what brings its peak to full scale.
    """

    path: Path
    kind: Kind
    position: float | None
    sample_rate: int
    num_samples: int
    gain_db: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {**asdict(self), "path": str(self.path)}


class Generator:
    """A variational autoencoder that generates sounds of the length of a patch.

    Args:
        model: see `Codec`.

    Raises:
        SettingsError: the model is not variational, or encodes no patches.
        ModelNotFoundError, CheckpointError, DependencyError: see `Codec`.
    """

    def __init__(self, model: str | Path | Codec = DEFAULT_MODEL) -> None:
        self.codec = model if isinstance(model, Codec) else Codec(model)
        info = self.codec.info
        if info.bottleneck != "gaussian":
            raise SettingsError(
                f"model {info.name!r} has a {info.bottleneck} bottleneck, which has no prior to "
                "sample from; give a model with bottleneck = 'gaussian'"
            )
        if info.stride == 1 or info.reach:
            raise SettingsError(
                f"model {info.name!r} encodes no patches of a fixed length; give a model with "
                "patch and latent_size"
            )

    @property
    def settings(self) -> FeatureSettings:
        """How features are computed."""
        return self.codec.settings

    @property
    def num_samples(self) -> int:
        """Length of a sound at the sample rate of the model."""
        return (self.codec.info.stride - 1) * self.settings.hop_length

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of a code, `[channels, steps]`."""
        return self.codec.info.channels, self.codec.info.stride // self.codec.info.step

    def encode_file(self, path: str | Path) -> Array:
        """The code of the loudest part of a recording, `[channels, steps]`; channels are mixed.

        A shorter recording is centred in silence.

        Raises:
            AudioFileError: the recording cannot be read, or is silent.
        """
        return self.codec.encode(
            self.codec.features(self._part(Path(path)), self.settings.sample_rate)
        )

    def _part(self, path: Path) -> Array:
        """The loudest `num_samples` of a recording, in constant memory."""
        rate = self.settings.sample_rate
        with AudioReader(path) as reader:
            form = reader.info
            wanted = max(1, -(-self.num_samples * form.sample_rate // rate))
            start = loudest(reader, wanted)
            reader.seek(start)
            sound = finite(reader.read(wanted)).mean(0, dtype=np.float32)
        if not np.abs(sound).max(initial=0):
            raise AudioFileError(f"{path} is silent; give a recording of a sound")
        sound = resample(sound, form.sample_rate, rate)[: self.num_samples]
        missing = self.num_samples - len(sound)
        return np.pad(sound, (missing // 2, missing - missing // 2))

    def sample(self, count: int, *, seed: int = 0) -> Iterator[Generated]:
        """Sounds from the prior. The first ones do not depend on `count`."""
        check_count(count, 1, "samples")
        for number in range(count):
            latent = np.random.default_rng([seed, number]).standard_normal(self.shape)
            yield self.decode(f"sample-{number:03d}", "sample", latent, seed=seed)

    def between(
        self, first: str | Path, second: str | Path, steps: int, *, seed: int = 0
    ) -> Iterator[Generated]:
        """Sounds along the line between the codes of two recordings, which are its ends."""
        check_count(steps, 2, "steps")
        ends = self.encode_file(first), self.encode_file(second)
        for number in range(steps):
            position = number / (steps - 1)
            latent = (1 - position) * ends[0] + position * ends[1]
            yield self.decode(f"between-{number:03d}", "between", latent, position, seed=seed)

    def around(
        self, path: str | Path, count: int, *, spread: float = 0.5, seed: int = 0
    ) -> Iterator[Generated]:
        """Variations of a recording: its code plus noise with the deviation `spread`."""
        check_count(count, 1, "sounds")
        if not 0 <= spread <= 10:
            raise SettingsError(f"spread is {spread}; expected 0 to 10")
        centre = self.encode_file(path)
        for number in range(count):
            noise = np.random.default_rng([seed, number]).standard_normal(self.shape)
            yield self.decode(f"around-{number:03d}", "around", centre + spread * noise, seed=seed)

    def decode(
        self,
        name: str,
        kind: Kind,
        latent: npt.NDArray[np.floating[Any]],
        position: float | None = None,
        *,
        seed: int = 0,
    ) -> Generated:
        """The sound of a code `[channels, steps]`, in any precision."""
        code = latent.astype(np.float32)
        features = self.codec.decode(code)
        waveform = self.codec.waveform(features, self.num_samples, seed=seed)
        return Generated(name, kind, code, position, features, waveform)


def check_count(count: int, least: int, what: str) -> None:
    """Raise `SettingsError` for a number of sounds that is out of range."""
    if not least <= count <= MAX_SOUNDS:
        raise SettingsError(f"got {count} {what}; expected {least} to {MAX_SOUNDS:,}")


def loudest(reader: AudioReader, wanted: int) -> int:
    """The first sample of the loudest `wanted` samples, to a tenth of their length."""
    hop = max(1, wanted // 10)
    powers: list[float] = []
    while (block := reader.read(100 * hop)).shape[1]:
        parts = np.split(block, range(hop, block.shape[1], hop), axis=1)
        powers.extend(float(np.square(part, dtype=np.float64).sum()) for part in parts)
    if len(powers) <= 10:
        return 0
    sums = np.convolve(np.nan_to_num(np.array(powers, dtype=np.float64)), np.ones(10), "valid")
    return min(int(sums.argmax()) * hop, max(0, reader.info.num_samples - wanted))


def write_sounds(
    sounds: Iterator[Generated] | Sequence[Generated],
    folder: str | Path,
    sample_rate: int,
    *,
    overwrite: bool = False,
) -> Iterator[tuple[Generated, WrittenSound]]:
    """Write each sound as a wav file of 16 bits into a folder, which is made if it is missing.

    A sound that exceeds full scale is brought to it.

    Raises:
        OutputError: a file exists or cannot be written.
    """
    from audioae.audio import write

    folder = Path(folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for sound in sounds:
        path, peak = folder / f"{sound.name}.wav", float(np.abs(sound.waveform).max(initial=0))
        factor = min(1.0, PEAK / max(peak, 1e-9))
        write(path, sound.waveform[None] * np.float32(factor), sample_rate, overwrite=overwrite)
        yield (
            sound,
            WrittenSound(
                path,
                sound.kind,
                sound.position,
                sample_rate,
                len(sound.waveform),
                round(20 * np.log10(factor), 2) + 0.0,
            ),
        )


def draw_grid(
    sounds: Sequence[tuple[str, Array]], settings: FeatureSettings, path: str | Path
) -> None:
    """Draw spectrograms in a grid.

    Args:
        sounds: titles and features `[bins, frames]`.
        path: the picture; its suffix sets the format.

    Raises:
        DependencyError: matplotlib or librosa is not installed.
        OutputError: the picture cannot be written.
    """
    figures = require("matplotlib.figure", extra="plots")
    display = require("librosa.display", extra="plots")
    columns = min(len(sounds), max(1, int(np.ceil(np.sqrt(len(sounds))))))
    rows = -(-len(sounds) // columns)
    figure = figures.Figure(figsize=(1 + 2.2 * columns, 0.6 + 1.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in grid[len(sounds) :]:
        axes.set_visible(False)
    for axes, (title, features) in zip(grid, sounds, strict=False):
        display.specshow(
            features,
            sr=settings.sample_rate,
            hop_length=settings.hop_length,
            x_axis="time",
            y_axis="mel" if settings.kind == "log_mel" else "linear",
            fmin=settings.fmin,
            fmax=settings.highest_hz,
            vmin=0,
            vmax=1,
            ax=axes,
        )
        axes.set_title(title, fontsize=9)
        axes.label_outer()
    save_figure(figure, Path(path), dpi=110)

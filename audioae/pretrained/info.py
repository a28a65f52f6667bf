"""The properties of a denoiser that are needed to run it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from audioae.errors import CheckpointError, SettingsError
from audioae.fields import build, check_types
from audioae.signal.spectrogram import StftSettings

MAX_NAME = 100  # characters
MAX_REACH_SECONDS = 60  # of stride, look-ahead and context; more takes gigabytes


@dataclass(frozen=True)
class Properties:
    """What `ModelInfo` and `CodecInfo` share: they become JSON and are read from it."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; unknown keys are ignored.

        Raises:
            CheckpointError: a field is missing, has a wrong type or is out of range.
        """
        with damage_errors("the properties of the model"):
            return build(cls, values)


@dataclass(frozen=True)
class ModelInfo(Properties):
    """The properties of a model that are needed to run it.

    Args:
        name: name of the model.
        family: kind of network ("conv1d", "conv2d", ...).
        stft: the STFT that makes its input.
        gain: "real" keeps the noisy phase, "complex" changes it.
        lookahead, context: frames after and before a frame that its gain depends on; both 0 for a
            causal model, which has a state instead.
        stride: frames per time step of the network; a chunk starts at a multiple of it.
        parameters: number of trained parameters.
        macs_per_second: multiply-accumulate operations per second of audio.
        version: version of audioae that made the model.
        edges: the input before the start and after the end of a recording: "silence", or "mirror",
            the recording reversed in time. A model with "mirror" runs in both directions of time
            and on whole chunks of a recording only, see `denoising.gains`.

    Raises:
        CheckpointError: a value has a wrong type or is out of range.

    Example:
        >>> info = ModelInfo("m", "conv1d", StftSettings(), "real", 0, 0, 1, 9000, 500_000, "0.1")
        >>> info.causal, ModelInfo.from_dict(info.to_dict()) == info
        (True, True)
    """

    name: str
    family: str
    stft: StftSettings
    gain: Literal["real", "complex"]
    lookahead: int
    context: int
    stride: int
    parameters: int
    macs_per_second: int
    version: str
    edges: Literal["silence", "mirror"] = "silence"

    def __post_init__(self) -> None:
        with damage_errors("the properties of the model"):
            check_types(self)
        check_name_and_size(self.name, self.parameters, self.macs_per_second)
        if self.stride < 1 or self.lookahead < 0 or self.context < 0:
            timing = f"stride {self.stride}, lookahead {self.lookahead}, context {self.context}"
            raise CheckpointError(
                f"model {self.name!r} has {timing}; expected stride >= 1, lookahead >= 0 and "
                "context >= 0"
            )
        reach = max(self.stride, self.lookahead, self.context) * self.stft.hop_length
        if reach > MAX_REACH_SECONDS * self.stft.sample_rate:
            raise CheckpointError(
                f"model {self.name!r} has a stride of {self.stride}, {self.lookahead} frames of "
                f"look-ahead and {self.context} of context; expected at most "
                f"{MAX_REACH_SECONDS} s of each"
            )

    @property
    def causal(self) -> bool:
        """True if gains depend on no later frame and the past is in a state."""
        return self.lookahead == 0 and self.context == 0


def name_of_file(path: Path) -> str:
    """The name of a model from the name of its file.

    Example:
        >>> name_of_file(Path("pump 3.onnx")), name_of_file(Path("a\\tb.onnx"))
        ('pump 3', 'a_b')
    """
    return "".join(each if each.isprintable() else "_" for each in path.stem)[:MAX_NAME]


def check_name_and_size(name: str, parameters: int, macs_per_second: int) -> None:
    """Raise `CheckpointError` unless a name can be printed and both numbers are not negative."""
    if not name or not name.isprintable() or len(name) > MAX_NAME:
        raise CheckpointError(
            f"a model has the name {name[:MAX_NAME]!r}; expected 1 to {MAX_NAME} printable "
            "characters"
        )
    if parameters < 0 or macs_per_second < 0:
        raise CheckpointError(
            f"model {name!r} has {parameters} parameters and {macs_per_second} MAC/s; expected no "
            "negative numbers"
        )


@contextmanager
def damage_errors(what: str) -> Iterator[None]:
    """Raise the errors of values that are damaged as `CheckpointError`."""
    try:
        yield
    except (ValueError, SettingsError) as error:
        raise CheckpointError(f"{what} cannot be used: {error}") from error

"""An int8 copy of an ONNX denoiser: half the size, and faster on most processors.

Wide convolutions get weights and activations of 8 bits, with ranges from training mixtures (static
quantisation, QDQ format); LSTMs get weights of 8 bits and measure their inputs at each run (dynamic
quantisation). The other operations stay in float32: they take little time, and the layers next to
the spectrum need its dynamic range.

The range of an LSTM's input is that of the block that it is run on, so the gains of such a model
depend slightly on how a recording is divided into blocks. A model without LSTMs has no such
dependence.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from audioae.data.augment import AugmentSettings
from audioae.data.mixtures import Corpus, DataSettings, Mixer, MixtureDataset
from audioae.engine import OnnxEngine
from audioae.errors import CheckpointError, DataError, require
from audioae.pretrained import ModelInfo
from audioae.signal.spectrogram import istft, stft
from audioae.storage import atomic_path, output_errors
from audioae.training.export import Exported, check_target, export
from audioae.training.validation import METRICS, Validation, ValidationSettings, means

if TYPE_CHECKING:
    from audioae.models import Denoiser

Array = npt.NDArray[np.float32]

MIXTURES, SECONDS = 32, 4.0  # for calibration
SEED = 20_000_005
LEAST_CHANNELS = 32  # of the input of a convolution
LEAST_SNR_DB = 20.0  # of the gains


@dataclass(frozen=True)
class Quantized(Exported):
    """A quantised model. `bytes` is the size of its file, and `difference` that of its float32
    original from torch.

    Args:
        layers: number of quantised convolutions and LSTMs.
        snr_db: power of the original's gains over that of the change, on validation mixtures.
        original_bytes: size of the original as a file.
        valid: scores of the quantised model on validation mixtures, by metric; None without the
            extra that computes it.
        original_valid: those of the original.
    """

    layers: int
    snr_db: float
    original_bytes: int
    valid: dict[str, float | None]
    original_valid: dict[str, float | None]


def export_quantized(
    denoiser: Denoiser,
    path: str | Path,
    data: str | Path,
    *,
    name: str,
    overwrite: bool = False,
    validation: ValidationSettings | None = None,
) -> Quantized:
    """Write a denoiser as an ONNX file with int8 layers, which runs wherever the float32 file does.

    Args:
        denoiser: left unchanged.
        path: the file to write, ending in .onnx.
        data: a folder of prepared data at the sample rate of the model. Mixtures of its training
            split calibrate the ranges; mixtures of its validation split give the scores.
        name: name of the model, stored in the file.
        overwrite: replace an existing file.
        validation: the validation mixtures, 64 of 4 s by default.

    Raises:
        CheckpointError: the model has no layer to quantise, or its gains change by more than a
            tenth (`LEAST_SNR_DB`); nothing is written.
        DataError: the data have another sample rate.
        OutputError: the path exists or cannot be written.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    require("onnx", extra="train")
    with TemporaryDirectory() as folder, output_errors(path), atomic_path(path) as temporary:
        original = Path(folder) / "float32.onnx"
        exported = export(denoiser, original, name=name)
        engine = OnnxEngine(original)
        mixtures = _calibration_mixtures(Path(data), engine.info.stft.sample_rate)
        layers = _quantize(original, temporary, mixtures, engine.info)
        snr_db, valid, original_valid = _compare(
            engine, OnnxEngine(temporary), Path(data), validation or ValidationSettings()
        )
        if not snr_db >= LEAST_SNR_DB:  # also refuses NaN
            raise CheckpointError(
                f"{name} was not written: int8 changes its gains to an SNR of {snr_db:.1f} dB; "
                f"expected at least {LEAST_SNR_DB:g} dB. Export it without --quantize"
            )
        size = temporary.stat().st_size
    return Quantized(
        path=str(path),
        name=name,
        parameters=exported.parameters,
        bytes=size,
        difference=exported.difference,
        layers=layers,
        snr_db=snr_db,
        original_bytes=exported.bytes,
        valid=valid,
        original_valid=original_valid,
    )


def _calibration_mixtures(folder: Path, sample_rate: int) -> list[Array]:
    """Noisy training mixtures, `[1, num_samples]` each."""
    settings = DataSettings(segment_seconds=SECONDS, augment=AugmentSettings.plain())
    corpus = Corpus(folder, "train", settings)
    if corpus.sample_rate != sample_rate:
        raise DataError(
            f"{folder} has a sample rate of {corpus.sample_rate} Hz and the model one of "
            f"{sample_rate} Hz; prepare data with --sample-rate {sample_rate}"
        )
    mixtures = MixtureDataset(Mixer(corpus, settings), seed=SEED, pairs=MIXTURES)
    return [mixtures[index][0].numpy()[None] for index in range(MIXTURES)]


def _quantize(original: Path, out: Path, mixtures: list[Array], info: ModelInfo) -> int:
    """Write the quantised graph and return the number of quantised layers."""
    import onnx
    from onnxruntime import quantization

    model = onnx.load(original)
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    nodes = model.graph.node
    wide = [node.name for node in nodes if node.op_type == "Conv" and _is_wide(node, shapes)]
    recurrent = [node.name for node in nodes if node.op_type == "LSTM"]
    if not wide + recurrent:
        raise CheckpointError(
            f"the model has no LSTM and no convolution of {LEAST_CHANNELS} channels or more; "
            "export it without --quantize"
        )
    static = original.with_name("static.onnx")
    with _silent():
        if wide:
            quantization.quantize_static(
                original,
                static,
                _Reader(model, mixtures, info),
                quant_format=quantization.QuantFormat.QDQ,
                nodes_to_quantize=wide,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
            )
        else:
            static = original
        if recurrent:
            quantization.quantize_dynamic(
                static,
                out,
                nodes_to_quantize=recurrent,
                op_types_to_quantize=["LSTM"],
                weight_type=quantization.QuantType.QInt8,
            )
        else:
            out.write_bytes(static.read_bytes())
    return len(wide) + len(recurrent)


def _is_wide(node: Any, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a convolution has many input channels and a kernel of more than one point."""
    _, channels, *kernel = shapes.get(node.input[1], (0, 0))
    return channels >= LEAST_CHANNELS and int(np.prod(kernel)) > 1


class _Reader:
    """The inputs of the graph for each mixture, from an empty past: a `CalibrationDataReader` of
    onnxruntime.
    """

    def __init__(self, model: Any, mixtures: list[Array], info: ModelInfo) -> None:
        self._mixtures, self._info = iter(mixtures), info
        self._states = {
            entry.name: np.zeros(
                [size.dim_value or 1 for size in entry.type.tensor_type.shape.dim], np.float32
            )
            for entry in model.graph.input[1:]
        }

    def get_next(self) -> dict[str, Array] | None:
        mixture = next(self._mixtures, None)
        if mixture is None:
            return None
        spectrum = stft(mixture, self._info.stft)
        spectrum = spectrum[..., : spectrum.shape[-1] // self._info.stride * self._info.stride]
        parts = np.stack([spectrum.real, spectrum.imag], 1)
        return {"spectrum": parts, **self._states}


def _compare(
    original: OnnxEngine, quantized: OnnxEngine, data: Path, mixtures: ValidationSettings
) -> tuple[float, dict[str, float | None], dict[str, float | None]]:
    """SNR of the quantised gains in dB, and the scores of the quantised and the original model on
    the validation mixtures.
    """
    plain = DataSettings(augment=AugmentSettings.plain())
    validation = Validation(data, plain, mixtures, {"compressed_magnitude": 1.0})
    settings = original.info.stft
    power = change = 0.0
    rows: tuple[list[Any], list[Any]] = ([], [])
    for noisy, clean in validation.pairs:
        waveform = noisy.numpy()[None]
        spectrum = stft(waveform, settings)
        gains = [engine.whole(spectrum) for engine in (quantized, original)]
        power += float(np.sum(abs(gains[1]) ** 2))
        change += float(np.sum(abs(gains[0] - gains[1]) ** 2))
        for found, gain in zip(rows, gains, strict=True):
            enhanced = istft(gain * spectrum, settings, num_samples=waveform.shape[1])
            scores = validation.row(torch.from_numpy(enhanced), noisy, clean, settings)
            found.append({metric: scores[metric] for metric in METRICS})
    snr_db = float(10 * np.log10(power / max(change, 1e-30)))
    return snr_db, means(rows[0]), means(rows[1])


@contextmanager
def _silent() -> Iterator[None]:
    """Without the advice on other settings that onnxruntime logs and prints."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)

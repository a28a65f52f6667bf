"""Clean a whole recording that is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audioae.denoising.level import running_level
from audioae.denoising.noise import measure_noise
from audioae.denoising.settings import DenoiseSettings
from audioae.denoising.stream import Stream, find_bad
from audioae.engine import Engine, choose_engine, load_model
from audioae.errors import SettingsError
from audioae.pretrained import default_model
from audioae.signal.spectrogram import Array

MOST_CHANNELS = 64  # a first axis longer than this, and than the second, counts samples


def denoise(
    waveform: Array,
    sample_rate: int,
    *,
    model: str | Path | Engine | None = None,
    settings: DenoiseSettings | None = None,
) -> Array:
    """Clean a recording; the answer has its shape and is aligned to it, float32.

    Args:
        waveform: float `[samples]` or `[channels, samples]`, full scale is -1..1.
        sample_rate: Hz, any.
        model: a name, a path or a loaded model; None is the default model.
        settings: how strongly; None is full strength with linked channels.
    """
    waveform = check_waveform(waveform)
    rows, settings = np.atleast_2d(waveform), settings or DenoiseSettings()
    engine = choose_engine(ready_engine(model), sample_rate, settings.quality)
    # The stream reports what is wrong with others.
    usable = sample_rate > 0 and len(rows) > 0 and find_bad(rows) is None
    noise, level = None, running_level([rows], sample_rate) if usable else None
    if settings.noise_from is not None and usable:
        start, end = (round(each * sample_rate) for each in settings.noise_from)
        noise = measure_noise([rows[:, start:end]], sample_rate, len(rows), engine.info.stft)
    stream = Stream(
        engine,
        sample_rate,
        len(rows),
        settings,
        noise=noise,
        level_dbfs=level,
        low_latency=False,
        recording=True,
    )
    enhanced, _ = stream.process(rows, last=True)
    return enhanced.reshape(waveform.shape)


def check_waveform(waveform: Array) -> Array:
    """The waveform as an array, or a `SettingsError` when it has not the shape or the type of one."""
    waveform = np.asarray(waveform)
    if not np.issubdtype(waveform.dtype, np.floating):
        raise SettingsError(
            f"waveform is of type {waveform.dtype}; expected floats with full scale -1..1 "
            "(divide int16 samples by 32768)"
        )
    if waveform.ndim not in (1, 2):
        raise SettingsError(
            f"waveform has the shape {waveform.shape}; expected [samples] or [channels, samples]"
        )
    if waveform.ndim == 2 and waveform.shape[0] > max(MOST_CHANNELS, waveform.shape[1]):
        raise SettingsError(
            f"waveform has the shape {waveform.shape}; expected [channels, samples], so "
            "transpose it"
        )
    return waveform


def ready_engine(model: str | Path | Engine | None, *, device: str = "auto") -> Engine:
    """`model`, loaded unless it is already; None is the default model."""
    if model is None or isinstance(model, (str, Path)):
        return load_model(model or default_model(), device=device)
    return model

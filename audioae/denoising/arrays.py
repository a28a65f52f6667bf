"""Denoise a recording in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audioae.denoising.gains import choose_engine
from audioae.denoising.level import running_level
from audioae.denoising.noise import measure_noise
from audioae.denoising.settings import DenoiseSettings, check_denoise_settings
from audioae.denoising.stream import (
    HIGHEST_RATE,
    LOWEST_RATE,
    Stream,
    find_invalid,
)
from audioae.engine import Engine, ready_engine
from audioae.errors import SettingsError
from audioae.fields import as_floats, as_integer
from audioae.signal.spectrogram import Array

# A first axis that is longer than this and longer than the second one is the time axis.
MAX_CHANNELS = 64


def denoise(
    waveform: Array,
    sample_rate: int,
    *,
    model: str | Path | Engine | None = None,
    settings: DenoiseSettings | None = None,
) -> Array:
    """Denoise a recording.

    Args:
        waveform: float `[samples]` or `[channels, samples]`, full scale is -1..1, in any precision
            and byte order. It is not changed. Divide integer PCM by its full scale first.
        sample_rate: Hz, 100 to 10,000,000; an integer, or a number such as 16000.0.
        model: a name, a path or a loaded model; None is the default model.
        settings: None is full strength with linked channels in the quality "best".

    Returns:
        The enhanced waveform, float32, of the same shape and time-aligned with the input.

    Raises:
        SettingsError: a wrong shape or type, NaN or infinite samples, or an impossible setting.
        ModelNotFoundError: there is no such model.

    Example:
        >>> noisy = np.random.default_rng(0).normal(0, 0.1, (2, 44100)).astype(np.float32)
        >>> enhanced = denoise(noisy, 44100)
        >>> enhanced.shape == noisy.shape
        True
        >>> bool(np.abs(enhanced).mean() < 0.5 * np.abs(noisy).mean())
        True
    """
    waveform, sample_rate = check_waveform(waveform), as_integer(sample_rate, "sample_rate")
    rows, settings = np.atleast_2d(waveform), check_denoise_settings(settings)
    engine = choose_engine(ready_engine(model), sample_rate, settings.quality)
    # `Stream` raises the errors about all other input.
    usable = (
        LOWEST_RATE <= sample_rate <= HIGHEST_RATE and len(rows) > 0 and find_invalid(rows) is None
    )
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
    """The waveform as an array.

    Raises:
        SettingsError: its shape or type is wrong.
    """
    waveform = as_floats(waveform)
    if waveform.ndim not in (1, 2):
        raise SettingsError(
            f"the waveform has shape {waveform.shape}; expected [samples] or [channels, samples]"
        )
    if waveform.ndim == 2 and waveform.shape[0] > max(MAX_CHANNELS, waveform.shape[1]):
        raise SettingsError(
            f"the waveform has shape {waveform.shape}; expected [channels, samples]: transpose it"
        )
    return waveform

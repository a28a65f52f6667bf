"""Waveforms, and the views of them that losses read."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from audioae.features import compress, power_spectrum, stft
from audioae.spectrogram import StftSettings

POWER = 0.3
FLOOR = 1e-8  # -80 dB below a bin of magnitude 1: quieter bins have no gradient to speak of


class Signal:
    """Waveforms `[batch, samples]` and the views of them that losses read, each computed once."""

    def __init__(self, waveform: Tensor, settings: StftSettings) -> None:
        self.waveform, self.settings = waveform, settings

    @cached_property
    def spectrum(self) -> Tensor:
        """`[batch, 2, freq, frames]`."""
        return stft(self.waveform, self.settings)

    @cached_property
    def magnitude(self) -> Tensor:
        """|X|, `[batch, 1, freq, frames]`."""
        return power_spectrum(self.spectrum, FLOOR).sqrt()

    @cached_property
    def compressed(self) -> tuple[Tensor, Tensor]:
        """|X|^0.3 and X |X|^-0.7, `[batch, 1 and 2, freq, frames]`."""
        return compress(self.spectrum, POWER, FLOOR)

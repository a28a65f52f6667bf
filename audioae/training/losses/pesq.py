"""The disturbance of PESQ as a loss: the difference in loudness of two signals according to ITU-T
P.862 and its wideband extension P.862.2.

Levels, the equalisation of the reference and the gains of frames are aligned, and powers become
loudness in 49 Bark bands. The difference in loudness is summed over bands, short intervals and the
signal, once for all differences (symmetric) and once for added components (asymmetric).

Time alignment and bad intervals of the standard are left out: estimates are aligned. The input
filter is applied to the bins of the spectrum, which needs no recursion over samples as in
torchaudio.functional.lfilter. The Bark bands are tables of the standard.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import torch
from torch import Tensor

from audioae.training.losses.distances import Signal

RATE, FRAME, HOP = 16000, 512, 256
LEVEL_BAND = 325.0, 3250.0  # Hz; both signals are scaled to the power ALIGNED in it
ALIGNED = 1e7
HIGH_PASS = (
    (2.740826, -5.4816519, 2.740826),
    (1.0, -1.9444777, 0.94597794),
)  # the wideband input filter: numerator, denominator
POWER_SCALE, LOUDNESS_SCALE, ZWICKER = 6.910853e-6, 0.1866055, 0.23
LARGEST = 45.0  # disturbance of a frame
STRETCH = 20  # frames of an interval; intervals overlap by half
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # weights of the disturbances on the PESQ scale
TINY = 1e-6

# For each band: number of bins, width in Bark, threshold of hearing as a power, correction of the
# power density (P.862.2, 16 kHz).
BINS = """
1 1 1 1 1 1 1 1 2 1 1 1 1 1 2 1 1 2 2 2 2 2 2 2 2 3 3 3 3 4 3 4 5 4 5 6 6 7 8 9 9 12 12 15 16 18
21 25 20
"""
WIDTHS = """
0.157344 0.317994 0.322441 0.326934 0.331474 0.336061 0.340697 0.345381 0.350114 0.354897
0.359729 0.364611 0.369544 0.374529 0.379565 0.384653 0.389794 0.394989 0.400236 0.405538
0.410894 0.416306 0.421773 0.427297 0.432877 0.438514 0.444209 0.449962 0.455774 0.461645
0.467577 0.473569 0.479621 0.485736 0.491912 0.498151 0.504454 0.510819 0.517250 0.523745
0.530308 0.536934 0.543629 0.550390 0.557220 0.564119 0.571085 0.578125 0.585232
"""
THRESHOLDS = """
51286152 2454709.5 70794.59375 4897.788574 1174.897705 389.045166 104.71286 45.70882 17.782795
9.772372 4.897789 3.090296 1.905461 1.258925 0.977237 0.724436 0.562341 0.457088 0.389045
0.331131 0.295121 0.269153 0.25704 0.251189 0.251189 0.251189 0.251189 0.263027 0.288403 0.30903
0.338844 0.371535 0.398107 0.436516 0.467735 0.489779 0.501187 0.501187 0.512861 0.524807
0.524807 0.524807 0.512861 0.47863 0.42658 0.371535 0.363078 0.416869 0.537032
"""
CORRECTIONS = """
100 100 100 100 100 100 100 100 50 100 100 100 100 100 53.047077 110 117.991989 65 68.760147 70
71.428818 75 76.843384 80.968781 88.646126 63.864388 68.155350 72.547775 75.584831 58.379192
80.950836 64.135651 54.384785 73.821884 64.437073 59.176456 65.521278 61.399822 58.144047
57.004543 64.126297 54.311001 61.114979 55.077751 56.849335 55.628868 53.137054 54.985844
79.546974
"""


def numbers(text: str) -> Tensor:
    """Parse a table of numbers: float32 `[49]`."""
    return torch.tensor([float(value) for value in text.split()])


@dataclass(frozen=True)
class Ear:
    """The tables of the standard as tensors; `[49, 1]` unless noted."""

    window: Tensor  # [512]
    filter_power: Tensor  # [257, 1]: |H|^2 of the input filter; 0 at 0 Hz
    level_bins: Tensor  # [257, 1]: 1 inside LEVEL_BAND
    bands: Tensor  # [49, 257]
    widths: Tensor
    thresholds: Tensor
    exponents: Tensor

    @classmethod
    def build(cls) -> Ear:
        """Build the tensors."""
        hertz = np.fft.rfftfreq(FRAME, 1 / RATE)
        unit = np.exp(-2j * np.pi * np.outer(hertz / RATE, np.arange(3)))
        response = np.abs((unit @ np.array(HIGH_PASS[0])) / (unit @ np.array(HIGH_PASS[1]))) ** 2
        response[0] = 0
        sizes, widths = numbers(BINS).long(), numbers(WIDTHS)
        bands = torch.zeros(len(sizes), len(hertz))
        ends = sizes.cumsum(0)
        for band, (size, end) in enumerate(zip(sizes.tolist(), ends.tolist(), strict=True)):
            bands[band, end - size : end] = 1
        centres = widths.cumsum(0) - widths / 2
        return cls(
            window=torch.hann_window(FRAME),
            filter_power=torch.from_numpy(response).float()[:, None],
            level_bins=torch.from_numpy(
                (hertz >= LEVEL_BAND[0]) & (hertz <= LEVEL_BAND[1])
            ).float()[:, None],
            bands=bands * numbers(CORRECTIONS)[:, None] * POWER_SCALE,
            widths=widths[:, None],
            thresholds=numbers(THRESHOLDS)[:, None],
            exponents=ZWICKER * (6 / (centres + 2)).clamp(1, 2)[:, None] ** 0.15,
        )

    def bark(self, waveform: Tensor) -> Tensor:
        """Power in Bark bands after the alignment of levels.

        Waveforms `[batch, num_samples]` at 16 kHz to `[batch, 49, frames]`.
        """
        spectrum = torch.stft(
            waveform, FRAME, HOP, window=self.window, center=False, return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        # Ratio of the sum over the bins of overlapping frames and the energy of the signal.
        share = self.window.square().sum() / HOP * FRAME / 2
        level = (power * self.level_bins).sum((1, 2), keepdim=True) / share / waveform.shape[-1]
        return self.bands @ (power * self.filter_power * (ALIGNED / (level + 1e-12)))

    def audible(self, bark: Tensor, factor: float = 1.0) -> Tensor:
        """`bark` where it exceeds `factor` times the threshold of hearing, else 0."""
        return bark * (bark > factor * self.thresholds)

    def loudness(self, bark: Tensor) -> Tensor:
        """Loudness of each band in sone (Zwicker's law)."""
        relative = (0.5 + 0.5 * bark / self.thresholds).clamp_min(1.0)
        return (
            LOUDNESS_SCALE
            * (2 * self.thresholds) ** self.exponents
            * (relative**self.exponents - 1)
        )

    def over_bands(self, disturbance: Tensor, power: int) -> Tensor:
        """The norm of order `power` over bands, weighted by their widths: `[batch, frames]`."""
        whole = self.widths[1:].sum()
        return whole * root(
            ((self.widths * disturbance)[:, 1:].abs() ** power).sum(1) / whole, power
        )


@cache
def ear_on(device: torch.device) -> Ear:
    """The tables on a device."""
    built = Ear.build()
    return Ear(**{field.name: getattr(built, field.name).to(device) for field in fields(Ear)})


def disturbances(estimate: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric and the asymmetric disturbance of waveforms at 16 kHz.

    Waveforms are `[batch, num_samples]`, disturbances `[batch]`.
    """
    ear = ear_on(reference.device)
    degraded, original = ear.bark(estimate), ear.bark(reference)
    active = (ear.audible(original, 1e2).sum(1, keepdim=True) >= 1e7).float()
    mean_degraded, mean_original = (
        (ear.audible(bark, 1e2) * active).mean(-1, keepdim=True) for bark in (degraded, original)
    )
    original = original * ((mean_degraded + 1e3) / (mean_original + 1e3)).clamp(0.01, 100)
    loud = ear.audible(original).sum(1, keepdim=True)
    gain = (loud + 5e3) / (ear.audible(degraded).sum(1, keepdim=True) + 5e3)
    gain = torch.cat([gain[..., :1], 0.8 * gain[..., 1:] + 0.2 * gain[..., :-1]], -1)
    degraded = degraded * gain.clamp(3e-4, 5)

    loudness, target = ear.loudness(degraded), ear.loudness(original)
    difference = loudness - target
    masked = 0.25 * torch.minimum(loudness, target)
    difference = difference.sign() * (difference.abs() - masked).clamp_min(0)
    added = ((degraded + 50) / (original + 50)) ** 1.2
    added = torch.where(added < 3, 0.0, added.clamp(max=12))
    weight = ((loud[:, 0] + 1e5) / 1e7) ** 0.04
    symmetric = (ear.over_bands(difference, 2) / weight).clamp(max=LARGEST)
    asymmetric = (ear.over_bands(difference * added, 1) / weight).clamp(max=LARGEST)
    return over_time(symmetric), over_time(asymmetric)


def over_time(disturbance: Tensor) -> Tensor:
    """The norm over frames: of order 6 within an interval, of order 2 over intervals."""
    frames = disturbance.shape[-1]
    stretches = disturbance.unfold(-1, min(STRETCH, frames), STRETCH // 2)
    return root(root((stretches**6).mean(-1), 3).mean(-1), 2)


def root(x: Tensor, order: int) -> Tensor:
    """The root of numbers >= 0, changed near 0 so that its gradient is finite."""
    y: Tensor = (x + TINY) ** (1 / order) - TINY ** (1 / order)
    return y


def pesq_disturbance(estimate: Signal, reference: Signal) -> Tensor:
    """4.5 less the PESQ score before its mapping to MOS; 0 for silent references."""
    guess, truth = (at_rate(signal) for signal in (estimate, reference))
    symmetric, asymmetric = disturbances(guess, truth)
    audible = truth.square().mean(-1) > 1e-8
    return torch.where(audible, SYMMETRIC * symmetric + ASYMMETRIC * asymmetric, 0.0).mean()


def at_rate(signal: Signal) -> Tensor:
    """The waveforms, resampled to the sample rate of the standard."""
    if signal.settings.sample_rate == RATE:
        return signal.waveform
    from torchaudio.functional import resample

    resampled: Tensor = resample(signal.waveform, signal.settings.sample_rate, RATE)
    return resampled


def opinion_score(symmetric: Tensor, asymmetric: Tensor) -> Tensor:
    """The PESQ-WB score for disturbances, with the mapping of P.862.2."""
    raw = 4.5 - SYMMETRIC * symmetric - ASYMMETRIC * asymmetric
    return 0.999 + 4 / (1 + torch.exp(-1.3669 * raw + 3.8224))

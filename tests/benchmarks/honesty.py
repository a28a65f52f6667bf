"""Whether a model does what it should and nothing else: clean speech, silence, noise alone, speech
in noise, and what it warns of.

All of it is measured on files as `audioae denoise` writes them, with its default settings.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from clips import Clip, make_music, mixture
from speech_kept import HIGH, SPEECH, Frames, Kept, find_frames, kept, level_change_db, spectrum

from audioae.denoising import denoise_file
from audioae.engine import Engine
from audioae.evaluation.metrics import score
from audioae.signal.spectrogram import Array, ComplexArray

SNRS_DB = (-5, 0, 5, 10, 15)
MUSIC = 12  # pieces
MOST_DB = 100.0  # of attenuation, that is told; for outputs that are digital silence
GAP_SECONDS, GAP_EDGE_SECONDS = (
    1.0,
    0.1,
)  # of zeros amid speech, and what of them may still be under a window with speech


@dataclass(frozen=True)
class Cleaned:
    """What became of a sound `[samples]`, and whether it was said not to look like speech."""

    waveform: Array
    warned: bool


Cleaner = Callable[[Array], Cleaned]


def measure_honesty(
    engine: Engine, speech: Sequence[Clip], noise: Sequence[Clip]
) -> dict[str, Any]:
    """All of it, as JSON takes it; clips are at the model's rate."""
    rate = engine.info.stft.sample_rate
    with tempfile.TemporaryDirectory() as folder:
        clean = file_cleaner(engine, Path(folder))
        seconds = max(len(clip.waveform) for clip in speech) / rate
        music = [
            clean(make_music(number, seconds=seconds, sample_rate=rate).waveform)
            for number in range(MUSIC)
        ]
        alone, noise_warned = noise_alone(clean, noise)
        return {
            "speech_clips": len(speech),
            "noise_clips": len(noise),
            "music_clips": len(music),
            "audio_seconds": round(sum(len(clip.waveform) for clip in speech) / rate, 1),
            "clean": clean_speech(clean, speech, rate),
            "silence": silence(clean, speech[0], rate),
            "noise": alone,
            "mixtures": [speech_in_noise(clean, speech, noise, snr_db, rate) for snr_db in SNRS_DB],
            "warned": {"noise": noise_warned, "music": share([each.warned for each in music])},
        }


def file_cleaner(engine: Engine, folder: Path) -> Cleaner:
    """Clean sounds as files of float samples in that folder."""
    source, target = folder / "noisy.wav", folder / "enhanced.wav"

    def clean(waveform: Array) -> Cleaned:
        soundfile.write(source, waveform, engine.info.stft.sample_rate, subtype="FLOAT")
        result = denoise_file(source, target, model=engine, overwrite=True)
        enhanced, _ = soundfile.read(target, dtype="float32")
        return Cleaned(enhanced, bool(result.verdict and result.verdict.warnings))

    return clean


def clean_speech(clean: Cleaner, speech: Sequence[Clip], sample_rate: int) -> dict[str, Any]:
    """PESQ-WB of cleaned against clean speech, the change of its level, what of it is lost and how
    often it is warned of.
    """
    pesq, levels, lost, warned = [], [], _Lost(), []
    for clip in speech:
        cleaned = clean(clip.waveform)
        before, after = (spectrum(each, sample_rate) for each in (clip.waveform, cleaned.waveform))
        frames = find_frames(before, sample_rate)
        value = score(cleaned.waveform, clip.waveform, sample_rate, ["pesq_wb"])["pesq_wb"].value
        pesq += [] if value is None else [value]
        levels.append(level_change_db(after, before, frames.active))
        lost.add(after, before, frames, sample_rate)
        warned.append(cleaned.warned)
    return {
        "pesq_wb": {"mean": float(np.mean(pesq)), "worst": min(pesq)} if pesq else None,
        "level_change_db": {"mean": float(np.mean(levels)), "worst": max(levels, key=abs)},
        **lost.to_dict(),
        "warned": share(warned),
    }


def silence(clean: Cleaner, clip: Clip, sample_rate: int) -> dict[str, Any]:
    """The largest sample that comes of digital silence, as a whole file and amid speech; 0 is
    silence.
    """
    nothing = clean(np.zeros(4 * sample_rate, np.float32)).waveform
    half, gap, edge = (
        len(clip.waveform) // 2,
        round(GAP_SECONDS * sample_rate),
        round(GAP_EDGE_SECONDS * sample_rate),
    )
    parts = [clip.waveform[:half], np.zeros(gap, np.float32), clip.waveform[half:]]
    amid = clean(np.concatenate(parts)).waveform[half + edge : half + gap - edge]
    return {"alone": float(np.abs(nothing).max()), "amid_speech": float(np.abs(amid).max())}


def noise_alone(clean: Cleaner, noise: Sequence[Clip]) -> tuple[dict[str, Any], float]:
    """By how much noise without speech is lowered, dB: mean, median, the class that is lowered
    least; and the share that is warned of.
    """
    by_class, warned = defaultdict(list), []
    for clip in noise:
        cleaned = clean(clip.waveform)
        by_class[clip.kind].append(attenuation_db(clip.waveform, cleaned.waveform))
        warned.append(cleaned.warned)
    values = [value for each in by_class.values() for value in each]
    worst = min(by_class, key=lambda name: float(np.mean(by_class[name])))
    told = {
        "name": worst,
        "attenuation_db": float(np.mean(by_class[worst])),
        "clips": len(by_class[worst]),
    }
    numbers = {
        "mean_db": float(np.mean(values)),
        "median_db": float(np.median(values)),
        "classes": len(by_class),
        "worst_class": told,
    }
    return numbers, share(warned)


def speech_in_noise(
    clean: Cleaner, speech: Sequence[Clip], noise: Sequence[Clip], snr_db: float, sample_rate: int
) -> dict[str, Any]:
    """What is lost of speech at a ratio, by how much SI-SDR rises, and how often speech is taken
    for something else.
    """
    lost, gains, warned = _Lost(), [], []
    for number, clip in enumerate(speech):
        noisy, reference = mixture(
            clip, noise[number % len(noise)], snr_db=snr_db, sample_rate=sample_rate
        )
        cleaned = clean(noisy)
        before, after = (spectrum(each, sample_rate) for each in (reference, cleaned.waveform))
        lost.add(after, before, find_frames(before, sample_rate), sample_rate)
        sides = [
            score(each, reference, sample_rate, ["si_sdr"])["si_sdr"].value
            for each in (noisy, cleaned.waveform)
        ]
        gains += [] if sides[0] is None or sides[1] is None else [sides[1] - sides[0]]
        warned.append(cleaned.warned)
    gain = float(np.mean(gains)) if gains else None
    return {"snr_db": snr_db, **lost.to_dict(), "si_sdr_gain_db": gain, "warned": share(warned)}


def attenuation_db(before: Array, after: Array) -> float:
    """The power of one waveform over that of another, dB, at most `MOST_DB`."""
    powers = [float(np.square(each, dtype=np.float64).sum()) for each in (before, after)]
    return float(10 * np.log10(powers[0] / max(powers[1], powers[0] * 10 ** (-MOST_DB / 10))))


def share(flags: Sequence[bool]) -> float:
    """How many of them are true, 0..1."""
    return sum(flags) / len(flags)


class _Lost:
    """Gathers what is lost of speech over clips: in all frames with speech, after pauses, and of
    consonants.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Kept] = defaultdict(Kept)
        self.clips: list[float] = []

    def add(
        self, enhanced: ComplexArray, clean: ComplexArray, frames: Frames, sample_rate: int
    ) -> None:
        """Take another clip."""
        sets = {
            "speech": (frames.active, SPEECH),
            "onset": (frames.onset, SPEECH),
            "consonant": (frames.consonant, HIGH),
        }
        each = {
            name: kept(enhanced, clean, mask, band, sample_rate)
            for name, (mask, band) in sets.items()
        }
        for name, part in each.items():
            self.sums[name] += part
        if (value := each["speech"].attenuation_db) is not None:
            self.clips.append(value)

    def to_dict(self) -> dict[str, Any]:
        """Attenuation by set of frames, dB, the worst clip's, and how many frames there were."""
        told: dict[str, Any] = {
            f"{name}_lost_db": part.attenuation_db for name, part in self.sums.items()
        }
        told["worst_clip_lost_db"] = max(self.clips, default=None)
        return {**told, "frames": {name: part.frames for name, part in self.sums.items()}}

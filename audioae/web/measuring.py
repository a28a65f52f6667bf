"""One pass over a recording, or a recording and its denoised version: peaks, spectrogram, levels,
verdict, and the audio of the page.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from audioae.audio import info
from audioae.denoising import Attenuation, Verdict
from audioae.denoising.verdict import VerdictMeter
from audioae.signal.loudness import Meter
from audioae.signal.resample import StreamResampler
from audioae.signal.spectrogram import StftSettings, analyse
from audioae.web import encoding
from audioae.web.columns import Peaks, Spectrogram, column_samples
from audioae.web.pairing import Facts, Pair, Span

Array = npt.NDArray[np.float32]

PEAKS_PER_SECOND, MOST_PEAKS = 1000, 24_000
SPECTRA_PER_SECOND, MOST_SPECTRA = 200, 12_000
ROWS = 128  # mel bands of a spectrogram


@dataclass
class Measured:
    """What one pass over the recordings gives.

    Args:
        seconds: length of the longer recording.
        delay: seconds by which the second recording was late.
        sample_rate, channels: of the audio on the page.
        kbps: bit rates of that audio, per channel, by name of track.
        facts: form and levels of each recording.
        meters: levels of each track by name: "before", "after", "removed".
        peaks: waveform and levels over time of each track by name.
        spectrogram: of the tracks in that order, not finished.
        parts: position of the parts of each track, and the id of the element that holds it.
        verdict: estimated from two recordings.
        audio: the elements with the audio, base64 of Opus, in a temporary file.
    """

    seconds: float
    delay: float
    sample_rate: int
    channels: int
    kbps: dict[str, float]
    facts: list[Facts]
    meters: dict[str, Meter]
    peaks: dict[str, Peaks]
    spectrogram: Spectrogram
    parts: dict[str, list[dict[str, Any]]]
    verdict: Verdict | None
    audio: IO[str]


def measure(
    before: Path, after: Path | None, *, progress: Callable[[float], None] | None = None
) -> Measured:
    """Read the recordings once and measure all that a page shows.

    Raises:
        AudioFileError: a recording cannot be read.
    """
    names = ["before"] if after is None else ["before", "after", "removed"]
    seconds = max(info(path).seconds for path in (before, after) if path is not None)
    rates = encoding.choose_rates(seconds, 2, tracks=len(names))
    with Pair(before, after, stereo=rates.channels == 2) as pair:
        rates = encoding.choose_rates(seconds, pair.channels, tracks=len(names))
        return _read(pair, names, rates.kbps, progress)


def _read(
    pair: Pair, names: list[str], kbps: dict[str, float], progress: Callable[[float], None] | None
) -> Measured:
    rate, total = pair.sample_rate, pair.num_samples
    step = column_samples(total, rate, per_second=PEAKS_PER_SECOND, most=MOST_PEAKS)
    peaks = {name: Peaks(total, step) for name in names}
    is_pair = len(names) == 3
    spectrogram = Spectrogram(
        rate,
        total,
        column_samples(total, rate, per_second=SPECTRA_PER_SECOND, most=MOST_SPECTRA),
        count=2 if is_pair else 1,
        derive=(lambda two: two[0] - two[1]) if is_pair else None,
        rows=ROWS,
        max_hz=min(rate, max(each.info.sample_rate for each in pair.facts)) / 2,
    )
    judge = _Judge(rate) if is_pair else None
    removed = Meter(rate, pair.channels)
    with _spool() as audio:
        encoder = _Encoder(audio, rate, total, kbps)
        done = 0
        with ThreadPoolExecutor(len(names)) as pool:
            for span in pair.blocks():
                tracks = signals_of(span)
                for name, block in tracks.items():
                    peaks[name].add(block)
                spectrogram.add(list(tracks.values())[:2])
                if judge is not None:
                    judge.add(span)
                    removed.add(tracks["removed"])
                encoder.add(tracks, pool)
                done += span.before.shape[-1]
                if progress is not None:
                    progress(done / rate)
        meters = [each.meter for each in pair.facts] + ([removed] if is_pair else [])
        return Measured(
            seconds=pair.seconds,
            delay=pair.delay,
            sample_rate=rate,
            channels=pair.channels,
            kbps=kbps,
            facts=pair.facts,
            meters=dict(zip(names, meters, strict=True)),
            peaks=peaks,
            spectrogram=spectrogram,
            parts=encoder.parts,
            verdict=judge.verdict() if judge is not None else None,
            audio=audio,
        )


@contextmanager
def _spool() -> Iterator[IO[str]]:
    """A temporary text file that is closed if the block fails; else its user closes it."""
    file = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115
    try:
        yield file
    except BaseException:
        file.close()
        raise


def signals_of(span: Span) -> dict[str, Array]:
    """The tracks of a block by name; "removed" is before minus after."""
    if span.after is None:
        return {"before": span.before}
    return {"before": span.before, "after": span.after, "removed": span.before - span.after}


class _Encoder:
    """Encodes the parts of all tracks in threads and writes them to a file in order."""

    def __init__(self, file: IO[str], rate: int, num_samples: int, kbps: dict[str, float]) -> None:
        self._file, self._rate, self._kbps = file, rate, kbps
        self._cutters = {name: encoding.Parts(rate, num_samples) for name in kbps}
        self.parts: dict[str, list[dict[str, Any]]] = {name: [] for name in kbps}

    def add(self, tracks: dict[str, Array], pool: ThreadPoolExecutor) -> None:
        """Add the next block of every track; waits until complete parts are encoded."""
        waiting: list[tuple[str, Future[bytes]]] = []
        for name, block in tracks.items():
            for start, seconds, lead, samples in self._cutters[name].add(block):
                key = f"audio-{name}-{len(self.parts[name])}"
                part = {"src": f"#{key}", "start": start, "seconds": seconds, "lead": lead}
                self.parts[name].append(part)
                job = pool.submit(encoding.opus, samples, self._rate, self._kbps[name])
                waiting.append((key, job))
        for key, job in waiting:
            text = encoding.base64_text(job.result())
            self._file.write(f'<script type="text/plain" id="{key}">{text}</script>\n')


class _Judge:
    """Estimates the verdict from a recording and its denoised version, up to 8 kHz."""

    def __init__(self, rate: int) -> None:
        self._stft = StftSettings()
        self._meter, self._attenuation = VerdictMeter(self._stft), Attenuation()
        self._resampler = StreamResampler(rate, self._stft.sample_rate, 2)
        self._waiting: Array = np.zeros((2, 0), np.float32)
        self._past: Array | None = None

    def add(self, span: Span) -> None:
        """Add a block of both recordings."""
        assert span.after is not None
        both = np.stack([span.before.mean(axis=0), span.after.mean(axis=0)])
        self._take(self._resampler.process(both))

    def _take(self, both: Array) -> None:
        hop = self._stft.hop_length
        signal = np.concatenate([self._waiting, both], axis=-1)
        whole = signal.shape[-1] // hop * hop
        self._waiting = signal[:, whole:]
        spectra, self._past = analyse(signal[:, :whole], self._stft, self._past)
        noisy, enhanced = spectra[:1], spectra[1:]
        quiet = np.abs(noisy) < 1e-7
        gain = np.where(quiet, 1, enhanced / np.where(quiet, 1, noisy))
        self._meter.add(noisy, gain)
        self._attenuation.add(noisy, enhanced)

    def verdict(self) -> Verdict:
        """The verdict at the end."""
        rest = self._resampler.process(np.zeros((2, 0), np.float32), last=True)
        self._take(np.pad(rest, ((0, 0), (0, self._stft.hop_length + self._stft.past))))
        return self._meter.verdict(self._attenuation.mean_db, self._attenuation.max_db)

"""Batches mixed on a GPU: all prepared audio is held there as int16, and the draws of `Mixer` are
rendered there, a batch at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from audioae.data.augment import (
    EARLY_SECONDS,
    BandLimit,
    ColouredNoise,
    Equaliser,
    Remix,
    ShapedNoise,
    direct_sound,
)
from audioae.data.augment.noises import SMOOTH_BINS
from audioae.data.manifest import FULL_SCALE
from audioae.data.mixtures.corpus import CROP_RMS, Corpus, Crop, DataSettings, Pool
from audioae.data.mixtures.draws import Babble, LikeRecording, MeasuredRoom, MixtureDraw, Recording
from audioae.data.mixtures.mixer import Mixer
from audioae.signal.mixing import ACTIVE_RANGE_DB

# lengths of room responses are rounded up to multiples of it, so that few sizes of transforms are
# planned
ROOM_STEP = 4096


class DeviceMixer:
    """Mixes batches of a corpus on a device.

    Mixture i of batch `index` is drawn as `MixtureDataset` draws its pair `index * size + i`, and
    rendered to the same waveform, but for `ColouredNoise` and `LikeRecording`, which become other
    noise of the same kind. Speed, codecs, lost packets, room responses, varied and other made
    noises are computed on the CPU and copied: they are few.
    """

    def __init__(self, corpus: Corpus, settings: DataSettings, device: str | torch.device) -> None:
        self.mixer, self.device = Mixer(corpus, settings), torch.device(device)
        self.speech, self.noise = (
            DevicePool(pool, self.device) for pool in (corpus.speech, corpus.noise)
        )
        self.sample_rate, self.samples = self.mixer.sample_rate, self.mixer.samples

    def batch(self, seed: int, index: int, size: int) -> tuple[Tensor, Tensor]:
        """`(noisy, clean)`, each float32 `[size, samples]` on the device; the same for the same
        numbers.
        """
        draws = [
            self.mixer.draw_mixture(np.random.default_rng([seed, index * size + number]))
            for number in range(size)
        ]
        noisy, clean = self.render(draws)
        rng = np.random.default_rng([seed, *range(index * size, index * size + size), size])
        if size > 1 and rng.random() < self.mixer.augment.remix:
            noisy = clean + (noisy - clean)[list(Remix.draw(rng, size).order)]
        return noisy, clean

    @torch.no_grad()
    def render(self, draws: Sequence[MixtureDraw]) -> tuple[Tensor, Tensor]:
        """The mixtures of these draws, `(noisy, clean)`, each `[batch, samples]`."""
        heard, clean = self.render_speech(draws)
        noise = self.render_noise(draws)
        ratios = [
            draw.blend.snr_db if draw.blend and draw.blend.snr_db is not None else np.inf
            for draw in draws
        ]
        with_speech = self.tensor([float(draw.blend is not None) for draw in draws])[:, None]
        mixed = heard + noise * self.scale(heard, noise, ratios)
        noisy, clean = mixed * with_speech + noise * (1 - with_speech), clean * with_speech
        level = 10 ** (self.tensor([draw.level.dbfs for draw in draws]) / 20)[:, None]
        factor = level / torch.clamp(rms(noisy)[:, None], min=1e-9)
        return self.render_channel(draws, noisy * factor, clean * factor)

    def render_speech(self, draws: Sequence[MixtureDraw]) -> tuple[Tensor, Tensor]:
        """Speech as it is heard, and the part of it that a denoiser should keep, each `[batch,
        samples]`.
        """
        dry = self.zeros(len(draws))
        plain = [number for number, draw in enumerate(draws) if not draw.speed]
        if plain:
            dry[plain] = self.speech.read([draws[number].speech for number in plain])
        for number, draw in enumerate(draws):
            if draw.speed:
                played = draw.speed.apply(
                    self.mixer.corpus.speech.read(draw.speech), self.samples, self.sample_rate
                )
                dry[number] = torch.from_numpy(played).to(self.device)
        heard, clean = dry.clone(), dry.clone()
        equalised = [
            number for number, draw in enumerate(draws) if draw.speech_eq and not draw.room
        ]
        heard[equalised] = clean[equalised] = self.equalise(
            dry[equalised], [draws[number].speech_eq for number in equalised]
        )
        roomy = [number for number, draw in enumerate(draws) if draw.room]
        if roomy:
            heard[roomy], clean[roomy] = self.reverberate(
                dry[roomy], [draws[number] for number in roomy]
            )
        sounds = self.active_rms(heard)[:, None] > 0
        return torch.where(sounds, heard, dry), torch.where(sounds, clean, dry)

    def reverberate(self, dry: Tensor, draws: Sequence[MixtureDraw]) -> tuple[Tensor, Tensor]:
        """Speech in the rooms of the draws, behind their equalisers: heard and target, as
        `filter_speech` makes them.
        """
        rooms = [self.room(draw) for draw in draws]
        length = -(-max(map(len, rooms)) // ROOM_STEP) * ROOM_STEP
        responses = torch.from_numpy(
            np.stack([np.pad(room, (0, length - len(room))) for room in rooms])
        ).to(self.device)
        size = fft.next_fast_len(self.samples + length, real=True)
        spectrum = torch.fft.rfft(dry, size) * self.gains([draw.speech_eq for draw in draws], size)
        early = responses.clone()
        early[:, int(EARLY_SECONDS * self.sample_rate) :] = 0
        heard, clean = (
            torch.fft.irfft(spectrum * torch.fft.rfft(each, size), size)[:, : self.samples]
            for each in (responses, early)
        )
        return heard, clean

    def room(self, draw: MixtureDraw) -> Any:
        """The room response `[samples]` of a draw, from its direct sound on, whose level is 1."""
        assert draw.room
        measured = isinstance(draw.room, MeasuredRoom)
        room = (
            self.mixer.corpus.room(draw.room.number)
            if measured
            else draw.room.response(self.sample_rate)
        )  # type: ignore[union-attr]
        return room[direct_sound(room) :] / np.float32(max(float(np.abs(room).max()), 1e-9))

    def render_noise(self, draws: Sequence[MixtureDraw]) -> Tensor:
        """One noise, or two, `[batch, samples]`."""
        noise = self.render_sources(draws)
        equalised = [number for number, draw in enumerate(draws) if draw.noise_eq]
        noise[equalised] = self.equalise(
            noise[equalised], [draws[number].noise_eq for number in equalised]
        )
        doubled = [(number, draw.second) for number, draw in enumerate(draws) if draw.second]
        if doubled:
            numbers = [number for number, _ in doubled]
            first, second = noise[numbers], self.noise.read([second.crop for _, second in doubled])
            both = first + second * self.scale(
                first, second, [second.below_db for _, second in doubled]
            )
            noise[numbers] = torch.where(self.active_rms(first)[:, None] > 0, both, second)
        return noise

    def render_sources(self, draws: Sequence[MixtureDraw]) -> Tensor:
        """The first noise of each, before its equaliser, `[batch, samples]`."""
        noise = self.zeros(len(draws))
        recorded = [
            (number, draw.noise.crop)
            for number, draw in enumerate(draws)
            if isinstance(draw.noise, Recording | LikeRecording)
        ]
        if recorded:
            noise[[number for number, _ in recorded]] = self.noise.read(
                [crop for _, crop in recorded]
            )
        for number, draw in enumerate(draws):
            match draw.noise:
                case LikeRecording(_, shape):
                    noise[number] = self.shaped(shape, self.smooth(noise[number]))
                case ColouredNoise() as coloured:
                    noise[number] = self.shaped(
                        coloured, torch.clamp(self.bins(), min=1) ** (-coloured.exponent / 2)
                    )
                case Babble(crops):
                    speakers = self.speech.read(crops)
                    level = self.active_rms(speakers)[:, None]
                    noise[number] = torch.where(
                        level > 0, speakers / torch.clamp(level, min=1e-12), 0
                    ).sum(0)
                case Recording() if draw.variation:
                    varied = draw.variation.apply(noise[number].cpu().numpy(), self.sample_rate)
                    noise[number] = torch.from_numpy(varied).to(self.device)
                case Recording():
                    pass
                case made:
                    noise[number] = torch.from_numpy(made.apply(self.samples, self.sample_rate)).to(
                        self.device
                    )
        return noise

    def smooth(self, recording: Tensor) -> Tensor:
        """The smoothed spectral magnitude of a recording `[samples]`."""
        magnitude = torch.fft.rfft(recording).abs()
        return torch.nn.functional.avg_pool1d(magnitude[None], SMOOTH_BINS, 1, SMOOTH_BINS // 2)[0]

    def shaped(self, noise: ColouredNoise | ShapedNoise, magnitude: Tensor) -> Tensor:
        """Gaussian noise `[samples]` of RMS 1 without a mean, with the spectral magnitude `[samples
        // 2 + 1]`.
        """
        generator = torch.Generator(self.device).manual_seed(noise.seed)
        normal = torch.randn(len(magnitude), 2, generator=generator, device=self.device)
        spectrum = torch.view_as_complex(normal) * magnitude
        spectrum[0] = 0
        waveform = torch.fft.irfft(spectrum, self.samples)
        unit: Tensor = waveform / torch.clamp(rms(waveform), min=1e-12)
        return unit

    def render_channel(
        self, draws: Sequence[MixtureDraw], noisy: Tensor, clean: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Clipping, band limits, codecs, lost packets and silence, where they were drawn."""
        limits = self.tensor(
            [draw.clipping.fraction if draw.clipping else np.inf for draw in draws]
        )
        limit = (limits * torch.clamp(noisy.abs().amax(-1), min=1e-30))[:, None]
        noisy = torch.maximum(torch.minimum(noisy, limit), -limit)
        for number, draw in enumerate(draws):
            if draw.band_limit:
                noisy[number] = self.limit_band(noisy[number], draw.band_limit)
                if draw.limits_target and draw.blend:
                    clean[number] = self.limit_band(clean[number], draw.band_limit)
            if draw.codec or draw.packet_loss:
                noisy[number] = self.degrade(noisy[number], draw)
            if draw.silence:
                start = round(draw.silence.start * self.samples)
                for side in (noisy, clean):
                    side[number, start : start + round(draw.silence.length * self.samples)] = 0
        return noisy, clean

    def limit_band(self, waveform: Tensor, limit: BandLimit) -> Tensor:
        """`[samples]` without what lies above the cut-off."""
        size = fft.next_fast_len(self.samples, real=True)
        gains = torch.tensor(limit.gains(size, self.sample_rate), device=self.device)
        limited: Tensor = torch.fft.irfft(torch.fft.rfft(waveform, size) * gains, size)[
            : self.samples
        ]
        return limited

    def degrade(self, waveform: Tensor, draw: MixtureDraw) -> Tensor:
        """`[samples]` through a codec and a network, by way of the CPU."""
        degraded = waveform.cpu().numpy()
        for effect in (draw.codec, draw.packet_loss):
            degraded = effect.apply(degraded, self.sample_rate) if effect else degraded
        return torch.from_numpy(np.ascontiguousarray(degraded)).to(self.device)

    def equalise(self, waveforms: Tensor, equalisers: Sequence[Equaliser | None]) -> Tensor:
        """`[n, samples]`, each behind its equaliser."""
        if not len(waveforms):
            return waveforms
        size = fft.next_fast_len(self.samples, real=True)
        filtered: Tensor = torch.fft.irfft(
            torch.fft.rfft(waveforms, size) * self.gains(equalisers, size), size
        )[:, : self.samples]
        return filtered

    def gains(self, equalisers: Sequence[Equaliser | None], size: int) -> Tensor:
        """Linear gains `[n, size // 2 + 1]`; 1 for None."""
        phi = torch.sin(torch.arange(size // 2 + 1, device=self.device) * (np.pi / size)) ** 2
        power = torch.ones(len(equalisers), len(phi), device=self.device)
        flat = ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0))
        for step in range(max((len(each.bands) for each in equalisers if each), default=0)):
            bands = [
                each.bands[step] if each and step < len(each.bands) else None for each in equalisers
            ]
            # n, 2, 3
            both = self.tensor(
                [band.polynomials(self.sample_rate) if band else flat for band in bands]
            )
            c = both[..., None]
            numerator, denominator = (
                c[:, side, 0] + phi * (c[:, side, 1] + phi * c[:, side, 2]) for side in (0, 1)
            )
            power *= numerator / denominator
        return torch.sqrt(torch.clamp(power, min=0))

    def scale(self, speech: Tensor, noise: Tensor, snr_db: Sequence[float]) -> Tensor:
        """The factors `[batch, 1]` on the noises that give these ratios; 0 where one side is
        silent, and for an infinite ratio.
        """
        speech_level, noise_level = self.active_rms(speech), self.active_rms(noise)
        factor = (
            speech_level / torch.clamp(noise_level, min=1e-30) * 10 ** (-self.tensor(snr_db) / 20)
        )
        return torch.where(noise_level > 0, factor, 0)[:, None]

    def active_rms(self, waveforms: Tensor) -> Tensor:
        """`mixing.active_rms` of each waveform, `[batch]`."""
        frame = min(max(1, self.sample_rate // 50), self.samples)
        # batch, frames
        power = (
            waveforms[:, : self.samples // frame * frame]
            .unflatten(-1, (-1, frame))
            .square()
            .mean(-1)
        )
        loudest = power.amax(-1, keepdim=True)
        active = (power >= loudest * 10 ** (-ACTIVE_RANGE_DB / 10)).float()
        return torch.sqrt((power * active).sum(-1) / active.sum(-1))

    def bins(self) -> Tensor:
        return torch.arange(self.samples // 2 + 1, device=self.device, dtype=torch.float32)

    def zeros(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.samples, device=self.device)

    def tensor(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)


class DevicePool:
    """The samples of a pool on a device, as they are stored: int16."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self.device = device
        self.starts = np.cumsum([0, *(row.samples for row in pool.rows)])
        held = np.empty(self.starts[-1], np.int16)
        for row, start in zip(pool.rows, self.starts, strict=False):
            held[start : start + row.samples] = pool.shards.view(row)
        self.held = torch.from_numpy(held).to(device)

    def read(self, crops: Sequence[Crop]) -> Tensor:
        """Crops of one length, at least one, `[n, samples]`, as `Pool.read` reads them one by one."""
        parts, lengths = [], []
        for crop in crops:
            ends = [piece.place for piece in crop.pieces[1:]] + [crop.samples]
            for piece, end in zip(crop.pieces, ends, strict=True):
                start = int(self.starts[piece.row]) + piece.start
                parts += [
                    self.held[start : start + piece.count],
                    self.silence(end - piece.place - piece.count),
                ]
                lengths += [piece.count, end - piece.place - piece.count]
        waveform = torch.cat(parts).float() / FULL_SCALE
        held = torch.tensor(lengths, device=self.device)
        # Not index_add: on a GPU it adds in any order, and a batch should be the same bits each
        # time.
        power = torch.segment_reduce(
            waveform.square(), "sum", lengths=held, unsafe=True
        ) / torch.clamp(held, min=1)
        gain = torch.where(power > 0, CROP_RMS / torch.sqrt(power), 0)
        levelled: Tensor = waveform * torch.repeat_interleave(gain, held, output_size=len(waveform))
        return levelled.view(len(crops), crops[0].samples)

    def silence(self, samples: int) -> Tensor:
        """`[samples]` of zeros, int16."""
        return torch.zeros(max(samples, 0), dtype=torch.int16, device=self.device)


def rms(waveforms: Tensor) -> Tensor:
    """Root mean square over the samples."""
    return torch.sqrt(waveforms.square().mean(-1))

"""Draw mixtures of a corpus: a data set for torch, or batches mixed on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from audioae.data.augment import (
    BandLimit,
    Clicks,
    Clipping,
    Codec,
    ColouredNoise,
    DecayingRoom,
    Equaliser,
    Fan,
    Hum,
    ImageRoom,
    Level,
    MadeNoise,
    Melody,
    PacketLoss,
    Remix,
    ShapedNoise,
    SignalToNoise,
    Silence,
    Speed,
    Variation,
    Wind,
)
from audioae.data.manifest import FULL_SCALE
from audioae.data.mixtures.corpus import CROP_RMS, Corpus, Crop, DataSettings, Pool
from audioae.data.mixtures.draws import (
    Babble,
    LikeRecording,
    MeasuredRoom,
    MixtureDraw,
    Recording,
    SecondNoise,
)
from audioae.data.mixtures.renderer import Renderer
from audioae.signal.mixing import active_rms
from audioae.signal.spectrogram import Array


class Mixer:
    """Draws and renders mixtures of a corpus."""

    def __init__(self, corpus: Corpus, settings: DataSettings) -> None:
        self.corpus, self.settings, self.augment = corpus, settings, settings.augment
        self.sample_rate = corpus.sample_rate
        self.samples = round(settings.segment_seconds * corpus.sample_rate)
        self.renderer: Renderer[Array] = Renderer(
            corpus, corpus.speech.read_all, corpus.noise.read_all, np.asarray
        )

    def pair(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """A noisy and a clean waveform, each `[samples]`."""
        return self.render(self.draw_mixture(rng))

    def draw_mixture(self, rng: np.random.Generator) -> MixtureDraw:
        """Draw a mixture. Reads no audio, except to check that the speech is not silent."""
        augment, rate = self.augment, self.sample_rate
        # Effects added later draw from their own stream, so that earlier draws stay the same.
        more = rng.spawn(1)[0]
        speed = Speed.draw(more, augment.speed_factor) if more.random() < augment.speed else None
        speech = self.corpus.speech.draw_sound(
            rng, speed.needed(self.samples) if speed else self.samples, rate
        )
        room = self.draw_room(rng) if rng.random() < augment.reverb else None
        speech_eq = self.draw_equaliser(rng)
        noise, noise_eq = self.draw_noise(rng), self.draw_equaliser(rng)
        second = self.draw_second(rng) if rng.random() < augment.second_noise else None
        blend = None
        if rng.random() >= augment.speech_free:
            blend = SignalToNoise.draw(rng, augment.snr_db, augment.easy, augment.easy_snr_db)
        level = Level.draw(rng, augment.level_dbfs)
        clipping = Clipping.draw(rng) if rng.random() < augment.clipping else None
        band_limit = BandLimit.draw(more, rate) if more.random() < augment.band_limit else None
        codec = packet_loss = silence = None
        if more.random() < augment.codec:
            codec = Codec.draw(more, augment.codec_kbps, rate)
        if more.random() < augment.packet_loss:
            packet_loss = PacketLoss.draw(more, augment.packet_loss_share)
        if more.random() < augment.silence:
            seconds = self.settings.segment_seconds
            silence = Silence.draw(more, augment.silence_seconds, seconds)
        draw = MixtureDraw(
            samples=self.samples,
            speech=speech,
            speed=speed,
            room=room,
            speech_eq=speech_eq,
            noise=noise,
            noise_eq=noise_eq,
            second=second,
            blend=blend,
            level=level,
            clipping=clipping,
            band_limit=band_limit,
            limits_target=augment.band_limit_target,
            codec=codec,
            packet_loss=packet_loss,
            silence=silence,
        )
        return self.vary(draw, more)

    def vary(self, draw: MixtureDraw, rng: np.random.Generator) -> MixtureDraw:
        """Replace the noise by music, or vary recorded noise, with their probabilities."""
        if rng.random() < self.augment.music:
            draw = dataclasses.replace(draw, noise=Melody.draw(rng))
        return dataclasses.replace(
            draw, variation=Variation.draw(rng) if rng.random() < self.augment.vary_noise else None
        )

    def draw_room(self, rng: np.random.Generator) -> MeasuredRoom | DecayingRoom | ImageRoom:
        """A measured room with probability 0.5 if there are any; otherwise a simulated one: image
        source method or decaying noise, equally often.
        """
        if len(self.corpus.rooms) and rng.random() < 0.5:
            return MeasuredRoom(self.corpus.rooms.draw(rng))
        return ImageRoom.draw(rng) if rng.random() < 0.5 else DecayingRoom.draw(rng)

    def draw_equaliser(self, rng: np.random.Generator) -> Equaliser | None:
        """An equaliser with the probability `eq`."""
        return (
            Equaliser.draw(rng, self.augment.eq_db, self.sample_rate)
            if rng.random() < self.augment.eq
            else None
        )

    def draw_noise(
        self, rng: np.random.Generator
    ) -> Recording | Babble | LikeRecording | MadeNoise:
        """Synthetic noise, babble or a recording."""
        kind = rng.random()
        if kind < self.augment.synthetic_noise:
            return self.draw_made_noise(rng)
        if kind < self.augment.synthetic_noise + self.augment.babble:
            speakers = int(rng.integers(3, 9))
            return Babble(
                tuple(
                    self.corpus.speech.draw_sound(rng, self.samples, self.sample_rate)
                    for _ in range(speakers)
                )
            )
        return Recording(self.corpus.noise.draw_crop(rng, self.samples))

    def draw_made_noise(self, rng: np.random.Generator) -> LikeRecording | MadeNoise:
        """Coloured noise (30 %), noise with the spectrum of a recording (30 %), hum, clicks, a fan
        or wind (10 % each).
        """
        kind = rng.integers(10)
        if kind < 3:
            return ColouredNoise.draw(rng)
        if kind < 6:
            return LikeRecording(
                self.corpus.noise.draw_crop(rng, self.samples), ShapedNoise.draw(rng)
            )
        return (Hum, Clicks, Fan, Wind)[kind - 6].draw(rng)

    def draw_second(self, rng: np.random.Generator) -> SecondNoise:
        """A second recording, 0 to 10 dB below the first."""
        return SecondNoise(
            self.corpus.noise.draw_crop(rng, self.samples), float(rng.uniform(0, 10))
        )

    def render(self, draw: MixtureDraw) -> tuple[Array, Array]:
        """The noisy and the clean waveform, each `[samples]`; the same bits for the same draw."""
        noisy, clean = self.renderer.render([draw])
        return noisy[0], clean[0]

    def has_noise(self, draw: MixtureDraw) -> bool:
        """Whether the noise of a draw is not digital silence."""
        return active_rms(self.renderer.render_noise([draw])[0], self.sample_rate) > 0


Pair = tuple[Tensor, Tensor]


class MixtureDataset(Dataset[Pair]):
    """`pairs` items `(noisy, clean)`, each `[samples]`. Pair `index` depends only on the seed and
    the index.
    """

    def __init__(self, mixer: Mixer, *, seed: int, pairs: int) -> None:
        self.mixer, self.seed, self.pairs = mixer, seed, pairs

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, index: int) -> Pair:
        noisy, clean = self.mixer.pair(np.random.default_rng([self.seed, index]))
        return torch.from_numpy(noisy), torch.from_numpy(clean)

    def __getitems__(self, indices: list[int]) -> list[Pair]:
        """The pairs of a batch, for torch's DataLoader. If the noises of a batch are exchanged, a
        pair depends on the whole batch.
        """
        pairs = [self[index] for index in indices]
        rng = np.random.default_rng([self.seed, *indices, len(indices)])
        if len(pairs) < 2 or rng.random() >= self.mixer.augment.remix:
            return pairs
        noisy, clean = (torch.stack(side) for side in zip(*pairs, strict=True))
        remixed = Remix.draw(rng, len(pairs)).apply(noisy, clean)
        return list(zip(remixed, clean, strict=True))


class DeviceMixer:
    """Mixes batches of a corpus on a device.

    Mixture i of batch `index` is drawn as pair `index * size + i` of `MixtureDataset` and rendered
    by the same `Renderer`. Only the reading of crops differs: they are cut from audio on the
    device.
    """

    def __init__(self, corpus: Corpus, settings: DataSettings, device: str | torch.device) -> None:
        self.mixer, self.device = Mixer(corpus, settings), torch.device(device)
        self.speech = DevicePool(corpus.speech, self.device)
        self.noise = DevicePool(corpus.noise, self.device)
        self.renderer = Renderer(corpus, self.speech.read, self.noise.read, self._place)

    def batch(self, seed: int, index: int, size: int) -> tuple[Tensor, Tensor]:
        """`(noisy, clean)`, each float32 `[size, samples]` on the device. It depends on the
        arguments only.
        """
        indices = range(index * size, (index + 1) * size)
        noisy, clean = self.render(
            [self.mixer.draw_mixture(np.random.default_rng([seed, number])) for number in indices]
        )
        rng = np.random.default_rng([seed, *indices, size])
        if size > 1 and rng.random() < self.mixer.augment.remix:
            noisy = Remix.draw(rng, size).apply(noisy, clean)
        return noisy, clean

    def render(self, draws: Sequence[MixtureDraw]) -> tuple[Tensor, Tensor]:
        """The mixtures of these draws, `(noisy, clean)`, each `[batch, samples]`."""
        return self.renderer.render(draws)

    def _place(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


class DevicePool:
    """The samples of a pool on a device, int16 as in the shards."""

    def __init__(self, pool: Pool, device: torch.device) -> None:
        self.device = device
        self.starts = np.cumsum([0, *(row.samples for row in pool.rows)])
        held = np.empty(self.starts[-1], np.int16)
        for row, start in zip(pool.rows, self.starts, strict=False):
            held[start : start + row.samples] = pool.shards.view(row)
        self.held = torch.from_numpy(held).to(device)

    def read(self, crops: Sequence[Crop]) -> Tensor:
        """At least one crop of one length: `[n, samples]`, as `Pool.read` reads each."""
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
        # not index_add: on a GPU it adds in any order, and the bits would not repeat
        power = torch.segment_reduce(
            waveform.square(), "sum", lengths=held, unsafe=True
        ) / torch.clamp(held, min=1)
        gain = torch.where(power > 0, CROP_RMS / torch.sqrt(power), 0)
        levelled: Tensor = waveform * torch.repeat_interleave(gain, held, output_size=len(waveform))
        return levelled.view(len(crops), crops[0].samples)

    def silence(self, samples: int) -> Tensor:
        """`[samples]` of zeros, int16."""
        return torch.zeros(max(samples, 0), dtype=torch.int16, device=self.device)

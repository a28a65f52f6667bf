"""Mixtures as a data set of torch."""

from __future__ import annotations

import dataclasses

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
    filter_noise,
    filter_speech,
)
from audioae.data.mixtures.corpus import Corpus, DataSettings
from audioae.data.mixtures.draws import (
    Babble,
    LikeRecording,
    MeasuredRoom,
    MixtureDraw,
    Recording,
    SecondNoise,
)
from audioae.signal.mixing import active_rms, babble
from audioae.signal.spectrogram import Array


class Mixer:
    """Draws and renders mixtures of a corpus."""

    def __init__(self, corpus: Corpus, settings: DataSettings) -> None:
        self.corpus, self.settings, self.augment = corpus, settings, settings.augment
        self.sample_rate = corpus.sample_rate
        self.samples = round(settings.segment_seconds * corpus.sample_rate)

    def pair(self, rng: np.random.Generator) -> tuple[Array, Array]:
        """A noisy and a clean waveform, each `[samples]`."""
        return self.render(self.draw_mixture(rng))

    def draw_mixture(self, rng: np.random.Generator) -> MixtureDraw:
        """All that a mixture depends on; nothing is read but what tells whether speech is silent."""
        augment, rate = self.augment, self.sample_rate
        # Effects that came later draw from a stream of their own: those that are not asked for
        # leave the others as they were.
        more = rng.spawn(1)[0]
        speed = Speed.draw(more, augment.speed_factor) if more.random() < augment.speed else None
        speech = self.corpus.speech.draw_sound(
            rng, speed.needed(self.samples) if speed else self.samples, rate
        )
        room = self.draw_room(rng) if rng.random() < augment.reverb else None
        speech_eq = self.draw_equaliser(rng)
        noise, noise_eq = self.draw_noise(rng), self.draw_equaliser(rng)
        second = self.draw_second(rng) if rng.random() < augment.second_noise else None
        alone = rng.random() < augment.speech_free
        blend = (
            None
            if alone
            else SignalToNoise.draw(rng, augment.snr_db, augment.easy, augment.easy_snr_db)
        )
        level = Level.draw(rng, augment.level_dbfs)
        clipping = Clipping.draw(rng) if rng.random() < augment.clipping else None
        draw = MixtureDraw(
            self.samples, speech, speed, room, speech_eq, noise, noise_eq, second, blend, level, clipping,
            band_limit=BandLimit.draw(more, rate) if more.random() < augment.band_limit else None,
            limits_target=augment.band_limit_target,
            codec=Codec.draw(more, augment.codec_kbps, rate) if more.random() < augment.codec else None,
            packet_loss=PacketLoss.draw(more, augment.packet_loss_share) if more.random() < augment.packet_loss else None,
            silence=Silence.draw(more, augment.silence_seconds, self.settings.segment_seconds) if more.random() < augment.silence else None,
        )  # fmt: skip
        return self.vary(draw, more)

    def vary(self, draw: MixtureDraw, rng: np.random.Generator) -> MixtureDraw:
        """The draw with other noise: music, or a variation of recorded noise."""
        if rng.random() < self.augment.music:
            draw = dataclasses.replace(draw, noise=Melody.draw(rng))
        return dataclasses.replace(
            draw, variation=Variation.draw(rng) if rng.random() < self.augment.vary_noise else None
        )

    def draw_room(self, rng: np.random.Generator) -> MeasuredRoom | DecayingRoom | ImageRoom:
        """Half the time a measured room, where there are any; otherwise a made one, by the image
        source method or as decaying noise.
        """
        if len(self.corpus.rooms) and rng.random() < 0.5:
            return MeasuredRoom(self.corpus.rooms.draw(rng))
        return ImageRoom.draw(rng) if rng.random() < 0.5 else DecayingRoom.draw(rng)

    def draw_equaliser(self, rng: np.random.Generator) -> Equaliser | None:
        """An equaliser, or none."""
        return (
            Equaliser.draw(rng, self.augment.eq_db, self.sample_rate)
            if rng.random() < self.augment.eq
            else None
        )

    def draw_noise(
        self, rng: np.random.Generator
    ) -> Recording | Babble | LikeRecording | MadeNoise:
        """Made noise, babble or a recording."""
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
        """Three in ten coloured, three in ten like a recording, one in ten hum, clicks, a fan or
        wind each.
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
        """Another recording, 0 to 10 dB below the first."""
        return SecondNoise(
            self.corpus.noise.draw_crop(rng, self.samples), float(rng.uniform(0, 10))
        )

    def render(self, draw: MixtureDraw) -> tuple[Array, Array]:
        """The noisy and the clean waveform, each `[samples]`; the same bits for the same draw."""
        heard, clean = self.render_speech(draw)
        noise = self.render_noise(draw)
        noisy = draw.blend.apply(heard, noise, self.sample_rate) if draw.blend else noise
        noisy, clean = draw.level.apply(noisy, clean if draw.blend else np.zeros_like(clean))
        if draw.clipping:
            noisy = draw.clipping.apply(noisy)
        if draw.band_limit:
            noisy = draw.band_limit.apply(noisy, self.sample_rate)
            clean = (
                draw.band_limit.apply(clean, self.sample_rate)
                if draw.limits_target and draw.blend
                else clean
            )
        if draw.codec:
            noisy = draw.codec.apply(noisy, self.sample_rate)
        if draw.packet_loss:
            noisy = draw.packet_loss.apply(noisy, self.sample_rate)
        if draw.silence:
            noisy, clean = draw.silence.apply(noisy, clean)
        return noisy, clean

    def render_speech(self, draw: MixtureDraw) -> tuple[Array, Array]:
        """Speech as it is heard in a room, and the part of it that a denoiser should keep."""
        dry = self.corpus.speech.read(draw.speech)
        if draw.speed:
            dry = draw.speed.apply(dry, draw.samples, self.sample_rate)
        room = None
        if draw.room:
            room = (
                self.corpus.room(draw.room.number)
                if isinstance(draw.room, MeasuredRoom)
                else draw.room.response(self.sample_rate)
            )
        heard, clean = filter_speech(dry, room, draw.speech_eq, self.sample_rate)
        return (heard, clean) if self.sounds(heard) else (dry, dry)

    def render_noise(self, draw: MixtureDraw) -> Array:
        """One noise, or two, `[samples]`."""
        noise = filter_noise(self.render_source(draw), draw.noise_eq, self.sample_rate)
        if not draw.second:
            return noise
        second = self.corpus.noise.read(draw.second.crop)
        return (
            SignalToNoise(draw.second.below_db).apply(noise, second, self.sample_rate)
            if self.sounds(noise)
            else second
        )

    def render_source(self, draw: MixtureDraw) -> Array:
        """The first noise `[samples]`, before its equaliser."""
        match draw.noise:
            case Recording(crop):
                noise = self.corpus.noise.read(crop)
                return draw.variation.apply(noise, self.sample_rate) if draw.variation else noise
            case Babble(crops):
                return babble([self.corpus.speech.read(crop) for crop in crops], self.sample_rate)
            case LikeRecording(crop, shape):
                return shape.apply(self.corpus.noise.read(crop))
            case made:
                return made.apply(draw.samples, self.sample_rate)

    def sounds(self, waveform: Array) -> bool:
        """False for digital silence."""
        return active_rms(waveform, self.sample_rate) > 0


Pair = tuple[Tensor, Tensor]


class MixtureDataset(Dataset[Pair]):
    """`pairs` of `(noisy, clean)`, each `[samples]`; pair `index` depends on the seed and the index
    alone.
    """

    def __init__(self, mixer: Mixer, *, seed: int, pairs: int) -> None:
        self.mixer, self.seed, self.pairs = mixer, seed, pairs

    def __len__(self) -> int:
        return self.pairs

    def __getitem__(self, index: int) -> Pair:
        noisy, clean = self.mixer.pair(np.random.default_rng([self.seed, index]))
        return torch.from_numpy(noisy.astype(np.float32, copy=False)), torch.from_numpy(
            clean.astype(np.float32, copy=False)
        )

    def __getitems__(self, indices: list[int]) -> list[Pair]:
        """A batch, as the loader of torch asks for it; where the noises of a batch are remixed,
        pairs depend on the whole batch.
        """
        pairs = [self[index] for index in indices]
        rng = np.random.default_rng([self.seed, *indices, len(indices)])
        if len(pairs) < 2 or rng.random() >= self.mixer.augment.remix:
            return pairs
        noisy, clean = (torch.stack(side).numpy() for side in zip(*pairs, strict=True))
        remixed = torch.from_numpy(Remix.draw(rng, len(pairs)).apply(noisy, clean))
        return list(zip(remixed, torch.from_numpy(clean), strict=True))

"""Render draws into waveforms, a batch at a time: NumPy arrays on the CPU, torch tensors on a
device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic

import numpy as np

from audioae.data.augment import equalise, filter_speech, mix_at_ratios, set_levels
from audioae.data.augment.backend import Waves, namespace, to_numpy
from audioae.data.augment.blend import active_rms
from audioae.data.mixtures.corpus import Corpus, Crop
from audioae.data.mixtures.draws import (
    Babble,
    LikeRecording,
    MeasuredRoom,
    MixtureDraw,
    Recording,
)
from audioae.signal.mixing import babble
from audioae.signal.spectrogram import Array


class Renderer(Generic[Waves]):
    """Renders draws of one corpus.

    Rooms, varied speed, made and varied noise, codecs and packet loss are computed in NumPy and
    copied to the device: few mixtures have them, and loops over packets or calls of libsndfile
    gain nothing there.

    Args:
        read_speech, read_noise: read crops of one length from the corpus: `[batch, samples]`.
        place: copies a NumPy array to where the crops are.
    """

    def __init__(
        self,
        corpus: Corpus,
        read_speech: Callable[[Sequence[Crop]], Waves],
        read_noise: Callable[[Sequence[Crop]], Waves],
        place: Callable[[Array], Waves],
    ) -> None:
        self.corpus, self.sample_rate = corpus, corpus.sample_rate
        self.read_speech: Callable[[Sequence[Crop]], Waves] = read_speech
        self.read_noise: Callable[[Sequence[Crop]], Waves] = read_noise
        self.place: Callable[[Array], Waves] = place

    def render(self, draws: Sequence[MixtureDraw]) -> tuple[Waves, Waves]:
        """The mixtures of draws of one length.

        Returns:
            `(noisy, clean)`, each float32 `[batch, samples]`. On the same machine the same draws
            give the same bits.
        """
        heard, clean = self.render_speech(draws)
        noise = self.render_noise(draws)
        ratios = [None if draw.blend is None else draw.blend.snr_db for draw in draws]
        noisy = mix_at_ratios(heard, noise, ratios, self.sample_rate)
        for number, draw in enumerate(draws):
            if draw.blend is None:  # noise alone
                noisy[number], clean[number] = noise[number], 0
        noisy, clean = set_levels(noisy, clean, [draw.level for draw in draws])
        for number, draw in enumerate(draws):
            if any((draw.clipping, draw.band_limit, draw.codec, draw.packet_loss, draw.silence)):
                noisy[number], clean[number] = self.degrade(draw, noisy[number], clean[number])
        return noisy, clean

    def render_speech(self, draws: Sequence[MixtureDraw]) -> tuple[Waves, Waves]:
        """Speech as recorded in a room, and the target, each `[batch, samples]`.

        Both may be the same array.
        """
        crops = [None if draw.speed else draw.speech for draw in draws]
        dry = self._read(draws, crops, self.read_speech, self._change_speed)
        # apart, so that FFTs without a room have the same size in any batch
        in_rooms = [n for n, draw in enumerate(draws) if draw.room]
        equalised = [n for n, draw in enumerate(draws) if draw.speech_eq and not draw.room]
        if not in_rooms and not equalised:
            return dry, dry
        if len(draws) in (len(in_rooms), len(equalised)):
            return self._filter_speech(dry, draws)
        heard, clean = dry, 1 * dry  # a copy
        for rows in filter(None, (in_rooms, equalised)):
            some = [draws[n] for n in rows]
            heard[rows], clean[rows] = self._filter_speech(dry[rows], some)
        return heard, clean

    def _filter_speech(self, dry: Waves, draws: Sequence[MixtureDraw]) -> tuple[Waves, Waves]:
        rooms = [self._room(draw) if draw.room else None for draw in draws]
        equalisers = [draw.speech_eq for draw in draws]
        heard, clean = filter_speech(dry, rooms, equalisers, self.sample_rate)
        # a room may delay speech at the end of a segment out of it
        audible = active_rms(heard, self.sample_rate)[:, None] > 0
        where = namespace(dry).where
        return where(audible, heard, dry), where(audible, clean, dry)

    def render_noise(self, draws: Sequence[MixtureDraw]) -> Waves:
        """One noise or the sum of two, `[batch, samples]`."""
        crops = [_plain_crop(draw) for draw in draws]
        noise = self._read(draws, crops, self.read_noise, self._make_noise)
        equalisers = [draw.noise_eq for draw in draws]
        rows = [n for n, equaliser in enumerate(equalisers) if equaliser]
        if len(rows) == len(draws):
            noise = equalise(noise, equalisers, self.sample_rate)
        elif rows:
            noise[rows] = equalise(noise[rows], [equalisers[n] for n in rows], self.sample_rate)
        return self._add_second_noise(noise, draws)

    def _add_second_noise(self, noise: Waves, draws: Sequence[MixtureDraw]) -> Waves:
        doubled = [(n, draw.second) for n, draw in enumerate(draws) if draw.second]
        if not doubled:
            return noise
        rows = [n for n, _ in doubled]
        first, second = noise[rows], self.read_noise([second.crop for _, second in doubled])
        below_db = [second.below_db for _, second in doubled]
        both = mix_at_ratios(first, second, below_db, self.sample_rate)
        audible = active_rms(first, self.sample_rate)[:, None] > 0
        noise[rows] = namespace(noise).where(audible, both, second)
        return noise

    def degrade(self, draw: MixtureDraw, noisy: Waves, clean: Waves) -> tuple[Waves, Waves]:
        """Apply clipping, band limit, codec, packet loss and silence to one pair, each
        `[samples]`.
        """
        if draw.clipping:
            noisy = draw.clipping.apply(noisy)
        if draw.band_limit:
            noisy = draw.band_limit.apply(noisy, self.sample_rate)
            if draw.limits_target and draw.blend:
                clean = draw.band_limit.apply(clean, self.sample_rate)
        for effect in (draw.codec, draw.packet_loss):
            if effect:
                noisy = self.place(effect.apply(to_numpy(noisy), self.sample_rate))
        if draw.silence:
            noisy, clean = draw.silence.apply(noisy, clean)
        return noisy, clean

    def _read(
        self,
        draws: Sequence[MixtureDraw],
        crops: Sequence[Crop | None],
        read: Callable[[Sequence[Crop]], Waves],
        make: Callable[[MixtureDraw], Array],
    ) -> Waves:
        """`[batch, samples]`: the crops, and where there is none what `make` returns."""
        rows = [n for n, crop in enumerate(crops) if crop]
        found = [crop for crop in crops if crop]
        if len(found) == len(draws):
            return read(found)
        batch = np.zeros((len(draws), draws[0].samples), np.float32)
        for row, draw, crop in zip(batch, draws, crops, strict=True):
            if not crop:
                row[:] = make(draw)
        placed: Waves = self.place(batch)
        if found:
            placed[rows] = read(found)
        return placed

    def _change_speed(self, draw: MixtureDraw) -> Array:
        assert draw.speed
        speech = self.corpus.speech.read(draw.speech)
        return draw.speed.apply(speech, draw.samples, self.sample_rate)

    def _make_noise(self, draw: MixtureDraw) -> Array:
        match draw.noise:
            case Recording(crop):
                assert draw.variation
                return draw.variation.apply(self.corpus.noise.read(crop), self.sample_rate)
            case Babble(crops):
                return babble([self.corpus.speech.read(crop) for crop in crops], self.sample_rate)
            case LikeRecording(crop, shape):
                return shape.apply(self.corpus.noise.read(crop))
            case made:
                return made.apply(draw.samples, self.sample_rate)

    def _room(self, draw: MixtureDraw) -> Array:
        assert draw.room
        if isinstance(draw.room, MeasuredRoom):
            return self.corpus.room(draw.room.number)
        return draw.room.response(self.sample_rate)


def _plain_crop(draw: MixtureDraw) -> Crop | None:
    """The crop of recorded noise that is not varied."""
    return draw.noise.crop if isinstance(draw.noise, Recording) and not draw.variation else None

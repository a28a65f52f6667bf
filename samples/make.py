"""Make every clip of this folder again: `python samples/make.py` (needs espeak-ng on the PATH and
audioae installed).

The speech is espeak-ng's, the sentences and the noises are our own; nothing here was recorded or
downloaded.
"""

from __future__ import annotations

import csv
import io
import subprocess
from pathlib import Path

import numpy as np
import soundfile

from audioae.signal.mixing import mix_at_snr, noise_scale, rms, shaped_noise
from audioae.signal.resample import resample

HERE = Path(__file__).parent
RATE = 16000
SPEECH_RMS = 0.07

# name, espeak-ng voice, language, split, sentence
SPEECH = [
    (
        "alicia",
        "en-us+Alicia",
        "en",
        "train",
        "The baker opens his shop long before the first bus goes by.",
    ),
    (
        "andy",
        "en-gb+Andy",
        "en",
        "train",
        "Please leave the blue umbrella beside the kitchen door.",
    ),
    (
        "annie",
        "en-gb-scotland+Annie",
        "en",
        "train",
        "Six grey pigeons sat upon the roof and watched the rain.",
    ),
    (
        "belinda",
        "en-us+belinda",
        "en",
        "train",
        "She wrote the number on a card and put it in her purse.",
    ),
    (
        "benjamin",
        "en-us-nyc+benjamin",
        "en",
        "train",
        "Nobody heard the old clock strike thirteen last night.",
    ),
    ("boris", "de+boris", "de", "train", "Am Morgen liegt der Nebel noch lange über dem Fluss."),
    (
        "michel",
        "fr-fr+michel",
        "fr",
        "train",
        "Le train de nuit arrive à la gare avec une heure de retard.",
    ),
    (
        "diogo",
        "pt-br+Diogo",
        "pt",
        "train",
        "O menino comprou um caderno novo e duas canetas azuis.",
    ),
    ("linda", "es+linda", "es", "train", "La ventana de la cocina da a un patio lleno de flores."),
    (
        "marco",
        "en-029+Marco",
        "en",
        "train",
        "We followed the narrow path until the river turned south.",
    ),
    (
        "andrea",
        "en-gb-x-rp+Andrea",
        "en",
        "valid",
        "The garden gate was painted green the summer before last.",
    ),
    (
        "edward",
        "en-us+edward",
        "en",
        "valid",
        "Turn left at the lighthouse and keep the sea on your right.",
    ),
]
NOISE = [
    ("fan", "train"),
    ("hum", "train"),
    ("keyboard", "train"),
    ("rain", "train"),
    ("wind", "valid"),
    ("machine", "valid"),
]
OFFICE = "Good morning, and thank you for calling. The office is open from nine to five."
STREET = "It has been raining since Sunday, but the market is still open."


def main() -> None:
    make_pair(
        "noisy.wav",
        "clean.wav",
        voice="en-us+Alicia",
        sentence=OFFICE,
        kinds=("fan", "keyboard"),
        snr_db=4,
        seed=1,
    )
    make_stereo_pair(
        "noisy-44k-stereo.flac",
        "clean-44k-stereo.flac",
        voice="en-gb+edward",
        sentence=STREET,
        snr_db=8,
        seed=2,
    )
    speech, noise = [], []
    for name, voice, language, split, sentence in SPEECH:
        seconds = save(f"speech/{name}.ogg", speak(voice, sentence, RATE), RATE)
        origin = {
            "speaker": name,
            "language": language,
            "seconds": seconds,
            "split": split,
            "voice": voice,
            "sentence": sentence,
        }
        speech.append({"path": f"speech/{name}.ogg", **origin})
    for seed, (kind, split) in enumerate(NOISE, start=10):
        seconds = save(
            f"noise/{kind}.ogg", make_noise(kind, 4 * RATE, RATE, np.random.default_rng(seed)), RATE
        )
        noise.append(
            {"path": f"noise/{kind}.ogg", "class": kind, "seconds": seconds, "split": split}
        )
    write_table("speech.csv", speech)
    write_table("noise.csv", noise)
    pairs = [("noisy.wav", "clean.wav"), ("noisy-44k-stereo.flac", "clean-44k-stereo.flac")]
    write_table(
        "paired.csv", [{"noisy": noisy, "clean": clean} for noisy, clean in pairs], licence=False
    )


def make_pair(
    noisy: str,
    clean: str,
    *,
    voice: str,
    sentence: str,
    kinds: tuple[str, ...],
    snr_db: float,
    seed: int,
) -> None:
    """16 kHz, mono, 16 bit: half a second of noise alone, then speech in it."""
    rng = np.random.default_rng(seed)
    speech = np.pad(speak(voice, sentence, RATE), (RATE // 2, RATE // 4))
    noise = sum(make_noise(kind, len(speech), RATE, rng) for kind in kinds)
    save(noisy, mix_at_snr(speech, noise, snr_db=snr_db, sample_rate=RATE), RATE, subtype="PCM_16")
    save(clean, speech, RATE, subtype="PCM_16")


def make_stereo_pair(
    noisy: str, clean: str, *, voice: str, sentence: str, snr_db: float, seed: int
) -> None:
    """44.1 kHz, stereo, 24 bit: a voice left of the middle, in rain and wind from all sides and up
    to the highest frequencies.
    """
    rate, rng = 44100, np.random.default_rng(seed)
    mono = np.pad(speak(voice, sentence, rate), (rate // 4, rate // 8))
    later = round(0.0003 * rate)  # the right ear hears the voice 0.3 ms later and 4 dB softer
    speech = np.stack([mono, 0.63 * np.pad(mono, (later, 0))[: len(mono)]])
    noise = np.stack(
        [sum(make_noise(kind, len(mono), rate, rng) for kind in ("rain", "wind")) for _ in range(2)]
    )
    scale = noise_scale(speech[0], noise[0], snr_db=snr_db, sample_rate=rate)  # one for both ears
    save(noisy, (speech + noise * scale).T, rate, subtype="PCM_24")
    save(clean, speech.T, rate, subtype="PCM_24")


def speak(voice: str, sentence: str, rate: int) -> np.ndarray:
    """`[samples]` of espeak-ng reading `sentence`, at `rate` Hz; its RMS is `SPEECH_RMS`."""
    wav = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", "150", "--stdout", sentence],
        check=True,
        capture_output=True,
    ).stdout
    waveform, source_rate = soundfile.read(io.BytesIO(wav), dtype="float32")
    waveform = resample(np.trim_zeros(waveform), source_rate, rate)
    return waveform * (SPEECH_RMS / rms(waveform))


def make_noise(kind: str, samples: int, rate: int, rng: np.random.Generator) -> np.ndarray:
    """`[samples]` of one kind of noise; its RMS is `SPEECH_RMS`, or less where its peaks would
    clip.
    """
    seconds = np.arange(samples) / rate
    match kind:
        case "fan":  # a rumble that swells with the blades
            noise = coloured(samples, rng, slope=1.3) * (1 + 0.3 * np.sin(2 * np.pi * 11 * seconds))
        case "hum":  # mains with odd harmonics over a quiet hiss
            noise = sum(
                np.sin(2 * np.pi * (50 * k * seconds + rng.random())) / k for k in range(1, 40, 2)
            )
            noise = noise + 0.1 * coloured(samples, rng, slope=0)
        case "keyboard":  # seven clicks a second in a quiet room
            noise = 0.05 * coloured(samples, rng, slope=1) + clicks(
                samples, rate, rng, per_second=7, decay=0.015
            )
        case "rain":  # a few hundred drops a second over a hiss
            noise = 0.3 * coloured(samples, rng, slope=0.4) + clicks(
                samples, rate, rng, per_second=300, decay=0.001
            )
        case "wind":  # a rumble that comes and goes
            knots = np.arange(0, seconds[-1] + 1, 0.5)
            noise = coloured(samples, rng, slope=1.8) * np.interp(
                seconds, knots, rng.uniform(0.1, 1, len(knots))
            )
        case "machine":  # a buzz that beats, over a rumble
            noise = np.sign(np.sin(2 * np.pi * 90 * seconds)) * (
                1 + 0.5 * np.sin(2 * np.pi * 3 * seconds)
            )
            noise = noise + coloured(samples, rng, slope=1)
        case _:
            raise ValueError(f"no noise of the kind {kind!r}")
    return (noise * min(SPEECH_RMS / rms(noise), 0.8 / np.abs(noise).max())).astype(np.float32)


def coloured(samples: int, rng: np.random.Generator, *, slope: float) -> np.ndarray:
    """`[samples]` of noise of unit RMS whose power falls as 1 / f^slope; flat below a 400th of the
    band, where it would not be heard.
    """
    bins = samples // 2 + 1
    return shaped_noise(
        rng, samples, magnitude=np.maximum(np.arange(bins), bins / 400) ** (-slope / 2)
    )


def clicks(
    samples: int, rate: int, rng: np.random.Generator, *, per_second: float, decay: float
) -> np.ndarray:
    """`[samples]` of noise bursts at random times that fade by a factor e in `decay` seconds."""
    impulses = rng.uniform(0.2, 1, samples) * (rng.random(samples) < per_second / rate)
    fade = np.exp(-np.arange(int(8 * decay * rate)) / (decay * rate))
    return np.convolve(impulses, fade)[:samples] * rng.standard_normal(samples)


def save(path: str, waveform: np.ndarray, rate: int, *, subtype: str | None = None) -> float:
    """Write `[samples(, channels)]` below this folder and return its length in seconds."""
    (HERE / path).parent.mkdir(exist_ok=True)
    soundfile.write(HERE / path, waveform, rate, subtype=subtype)
    return round(len(waveform) / rate, 3)


def write_table(name: str, rows: list[dict[str, object]], *, licence: bool = True) -> None:
    rows = [{**row, "licence": "MIT"} for row in rows] if licence else rows
    with open(HERE / name, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()

"""Run a model in a program of your own, with NumPy, ONNX Runtime and soundfile alone.

python examples/onnx_only.py model.onnx samples/noisy.wav enhanced.wav

`audioae export RUN model.onnx` writes such a file, and the models of the package are ONNX files
already. The file describes itself: its metadata entry `audioae` has the STFT settings. This program
is a streaming loop for causal models: one frame in, one gain out, the network's state handed from
frame to frame. It omits what audioae adds around the network: other sample rates, very quiet or
loud recordings, attenuation limits, linked channels.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import onnxruntime
import soundfile


class Enhancer:
    """Enhances a mono signal hop by hop.

    Args:
        path: a causal model exported by audioae.
    """

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        info = json.loads(self.session.get_modelmeta().custom_metadata_map["audioae"])
        if info["lookahead"] or info["context"] or info.get("edges", "silence") != "silence":
            raise SystemExit(f"{path} needs future frames; this program runs causal models")
        stft = info["stft"]
        self.sample_rate, self.hop = stft["sample_rate"], stft["hop_length"]
        self.n_fft, self.length = stft["n_fft"], stft["win_length"]
        # Square root of a periodic Hann window, scaled so that overlap-add gives the input back.
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.length) / self.length)
        self.window = np.sqrt(hann * 2 * self.hop / self.length).astype(np.float32)
        self.samples = np.zeros(self.length, np.float32)  # the newest `win_length` input samples
        self.overlap = np.zeros(self.length, np.float32)  # sum of the frames synthesised so far
        # All states start with zeros; their only named dimension is the batch.
        self.states = {
            each.name: np.zeros([1 if isinstance(n, str) else n for n in each.shape], np.float32)
            for each in self.session.get_inputs()[1:]
        }

    def step(self, hop: np.ndarray) -> np.ndarray:
        """Take `hop_length` samples; return as many, `win_length - hop_length` samples late."""
        self.samples = np.concatenate([self.samples[self.hop :], hop])
        spectrum = np.fft.rfft(self.samples * self.window, self.n_fft)
        enhanced = spectrum * self.gain(spectrum)
        frame = np.fft.irfft(enhanced, self.n_fft)[: self.length] * self.window
        self.overlap += frame
        ready = self.overlap[: self.hop].astype(np.float32)
        self.overlap = np.concatenate([self.overlap[self.hop :], np.zeros(self.hop, np.float32)])
        return ready

    def gain(self, spectrum: np.ndarray) -> np.ndarray:
        """The gain per bin, `[bins]`, for a complex spectrum `[bins]`."""
        parts = np.stack([spectrum.real, spectrum.imag]).astype(np.float32)
        inputs = {"spectrum": parts[None, :, :, None], **self.states}  # B, 2, F, T
        gain, *states = self.session.run(None, inputs)
        self.states = dict(zip(self.states, states, strict=True))
        gain = gain[0, :, :, 0]
        return gain[0] if len(gain) == 1 else gain[0] + 1j * gain[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="an ONNX file that audioae exported")
    parser.add_argument("noisy", help="file of the model's sample rate")
    parser.add_argument("enhanced", help="file to write")
    options = parser.parse_args()
    noisy, sample_rate = soundfile.read(options.noisy, dtype="float32", always_2d=True)
    channels = [enhance(options.model, channel, sample_rate) for channel in noisy.T]
    soundfile.write(options.enhanced, np.stack(channels, axis=1), sample_rate)


def enhance(model: str, noisy: np.ndarray, sample_rate: int) -> np.ndarray:
    """Enhance one channel `[num_samples]`; the output is aligned with the input."""
    enhancer = Enhancer(model)
    if sample_rate != enhancer.sample_rate:
        raise SystemExit(f"{model} works at {enhancer.sample_rate} Hz; got {sample_rate} Hz")
    late = enhancer.length - enhancer.hop
    padding = late + -(len(noisy) + late) % enhancer.hop
    hops = np.pad(noisy, (0, padding)).reshape(-1, enhancer.hop)
    return np.concatenate([enhancer.step(hop) for hop in hops])[late : late + len(noisy)]


if __name__ == "__main__":
    main()

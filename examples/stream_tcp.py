"""Denoise audio that arrives over a TCP connection.

python examples/stream_tcp.py samples/noisy.wav enhanced.wav

The server receives 16-bit samples (little endian, mono, 16 kHz) and sends the enhanced samples back
as soon as they are ready, as many as it received. Here it runs in a thread, and the client sends a
file to it in packets of 20 ms. The protocol has no authentication: keep it on the loopback
interface.
"""

from __future__ import annotations

import argparse
import socket
import threading
from pathlib import Path

import numpy as np
import soundfile

import audioae

SAMPLE_RATE = 16000
PACKET = SAMPLE_RATE // 50  # samples, 20 ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("noisy", type=Path, help="mono file of 16 kHz")
    parser.add_argument("enhanced", type=Path, help="file to write")
    options = parser.parse_args()
    noisy, sample_rate = soundfile.read(options.noisy, dtype="int16")
    if sample_rate != SAMPLE_RATE or noisy.ndim != 1:
        parser.error(f"{options.noisy} has {sample_rate} Hz; this example takes mono of 16000 Hz")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_one, args=(listener,), daemon=True).start()
        enhanced = request(listener.getsockname(), noisy)
    soundfile.write(options.enhanced, enhanced, SAMPLE_RATE, subtype="PCM_16")
    print(f"{options.enhanced}: {len(enhanced)} samples")


def serve_one(listener: socket.socket) -> None:
    """Accept one connection and enhance its samples until the client has sent everything."""
    connection, _ = listener.accept()
    stream = audioae.Stream(audioae.load_model("speech-16k"), SAMPLE_RATE)
    print(f"latency: {1000 * stream.latency / SAMPLE_RATE:.0f} ms")
    odd = b""  # TCP may split a sample of two bytes
    with connection:
        while data := connection.recv(4096):
            data = odd + data
            whole = len(data) // 2 * 2
            odd = data[whole:]
            connection.sendall(to_bytes(stream.push(to_waveform(data[:whole]))))
        connection.sendall(to_bytes(stream.flush()))


def request(address: tuple[str, int], noisy: np.ndarray) -> np.ndarray:
    """Send int16 samples `[num_samples]` to the server; return the enhanced ones."""
    received = []
    with socket.create_connection(address) as connection:

        def send() -> None:
            for start in range(0, len(noisy), PACKET):
                connection.sendall(noisy[start : start + PACKET].astype("<i2").tobytes())
            connection.shutdown(socket.SHUT_WR)  # no more samples; the answer still comes

        sender = threading.Thread(target=send)
        sender.start()
        while data := connection.recv(4096):
            received.append(data)
        sender.join()
    return np.frombuffer(b"".join(received), "<i2")


def to_waveform(data: bytes) -> np.ndarray:
    """16-bit samples as float32 `[1, num_samples]` in -1..1."""
    return np.frombuffer(data, "<i2").astype(np.float32)[None] / 32768


def to_bytes(waveform: np.ndarray) -> bytes:
    """Float samples `[1, num_samples]` as 16-bit samples."""
    scaled = np.clip(np.rint(waveform[0] * 32768), -32768, 32767)
    return scaled.astype("<i2").tobytes()


if __name__ == "__main__":
    main()

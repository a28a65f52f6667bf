"""Load the local web app with recordings at the same time, and print times and memory:

python tests/benchmarks/serve_load.py [--files 20] [--seconds 60] [--quality best]

Uploads all files at once, starts all jobs, asks for previews in between, downloads the results, and
checks that each result belongs to its file. Memory is the proportional set size of all processes.
Linux only.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16000
SPEECH = Path(__file__).parents[2] / "samples" / "noisy.wav"
MIB = 2**20


def recording(number: int, seconds: float) -> np.ndarray:
    """Noisy speech, with another start and length for each number."""
    speech, _ = soundfile.read(SPEECH)
    size = round(seconds * RATE) + number
    return np.resize(np.roll(speech, -number * RATE // 3), size)


def wav(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


class Memory(threading.Thread):
    """Watches the memory of a process and its children, in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.most, self.server = pid, 0, 0

    def run(self) -> None:
        while Path(f"/proc/{self.pid}").exists():
            sizes = {pid: size_of(pid) for pid in [self.pid, *children(self.pid)]}
            self.most = max(self.most, sum(sizes.values()))
            self.server = max(self.server, sizes[self.pid])
            time.sleep(0.2)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(each) for each in task.read_text().split()]
    return found


def size_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def run(url: str, count: int, seconds: float, quality: str) -> dict[str, Any]:
    def call(method: str, path: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(f"{url}{path}", data, method=method)
        if isinstance(body, dict):
            request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request, timeout=3600) as answer:
            content = answer.read()
        return json.loads(content) if "json" in answer.headers["content-type"] else content

    waveforms = [recording(number, seconds) for number in range(count)]
    bodies = [wav(each) for each in waveforms]
    started = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        paths = [f"api/files?name={number}.wav" for number in range(count)]
        keys = [each["id"] for each in pool.map(lambda *given: call("POST", *given), paths, bodies)]
        uploaded = time.perf_counter() - started
        for key in keys:
            call("POST", f"api/files/{key}/denoise", {"quality": quality})
        previews: list[float] = []
        states = [{"state": "waiting"}]
        query = "&".join(f"id={key}" for key in keys)
        while any(each["state"] in ("waiting", "running") for each in states):
            asked = time.perf_counter()
            call("POST", f"api/files/{keys[-1]}/preview", {"quality": quality, "seconds": 8})
            previews.append(time.perf_counter() - asked)
            time.sleep(2)
            states = call("GET", f"api/files?{query}")
        done = time.perf_counter() - started
        results = list(pool.map(lambda key: call("GET", f"api/files/{key}/result"), keys))
    assert [each["state"] for each in states] == ["done"] * count, states
    for number, result in enumerate(results):
        enhanced, _ = soundfile.read(io.BytesIO(result))
        assert len(enhanced) == len(waveforms[number])
        likeness = [abs(np.corrcoef(enhanced[:RATE], each[:RATE])[0, 1]) for each in waveforms]
        assert int(np.argmax(likeness)) == number, f"result {number} is that of another file"
    return {
        "files": count,
        "seconds_each": seconds,
        "quality": quality,
        "upload_s": round(uploaded, 2),
        "all_done_s": round(done, 1),
        "times_real_time": round(count * seconds / done, 1),
        "preview_median_s": round(statistics.median(previews), 2),
        "preview_worst_s": round(max(previews), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quality", choices=["best", "fast"], default="best")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, "-m", "audioae", "serve", "--port", "0", "--temp-dir", folder]
        process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        url = re.search(r"http://\S+", process.stderr.readline())
        assert url
        memory = Memory(process.pid)
        memory.start()
        try:
            values = run(url[0], given.files, given.seconds, given.quality)
        finally:
            process.send_signal(signal.SIGINT)
            code = process.wait()
        left = list(Path(folder).iterdir())
    values |= {
        "memory_mib": round(memory.most / MIB),
        "server_memory_mib": round(memory.server / MIB),
        "exit_code": code,
        "files_left": len(left),
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main()

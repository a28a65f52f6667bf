"""Word error rate: speech is recognised by a command of the user's, and compared by jiwer."""

from __future__ import annotations

import json
import queue
import re
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from audioae.audio import write
from audioae.errors import DependencyError, ScoreError, SettingsError, require
from audioae.signal.resample import resample

Array = npt.NDArray[np.float32]

WER = "wer"
WER_UNIT = "%"
RATE = 16000  # Hz, of the files that a recogniser gets
PLACE = "{}"  # in a command, stands for the path of the recording
TIMEOUT_SECONDS = 600.0  # for one recording
TEXT_KEYS = ("text", "t")  # of a recogniser that prints JSON; pocketsphinx calls it t


class WordErrors(NamedTuple):
    """The word error rate in percent, and the number of words of the reference."""

    percent: float
    words: int


def normalise(text: str) -> str:
    """The words that are compared: lower case, without punctuation, separated by single spaces.

    Hyphens and dashes separate words, apostrophes are removed. Numbers stay as they are written.

    Example:
        >>> normalise("Well-known:  it’s 20 %, isn't it?")
        'well known its 20 isnt it'
    """
    text = re.sub(r"['’ʼ]", "", text.lower())
    return " ".join(re.sub(r"[^\w]|_", " ", text).split())


def word_errors(text: str, reference: str) -> WordErrors:
    """Substitutions, deletions and insertions per word of the reference, after `normalise`.

    Args:
        text: what was recognised.
        reference: what was said.

    Raises:
        ScoreError: the reference has no words.
        DependencyError: the package jiwer is not installed.

    Example:
        >>> word_errors("the cat sat on mat", "The cat sat on the mat.")
        WordErrors(percent=16.666666666666664, words=6)
    """
    jiwer = require("jiwer", extra="metrics")
    text, reference = normalise(text), normalise(reference)
    if not reference:
        raise ScoreError("the reference has no words")
    return WordErrors(100 * float(jiwer.wer(reference, text)), len(reference.split()))


class Said:
    """The texts of a pair, and their word error rates.

    Args:
        text: what was said; None takes the recognised text of the clean recording as reference.
        heard: what was recognised, or why nothing was, by side ("clean", "noisy", "enhanced").
    """

    def __init__(self, text: str | None, heard: Mapping[str, str | ScoreError | None]) -> None:
        self._heard = {side: found for side, found in heard.items() if found is not None}
        self._reference = self._heard.get("clean") if text is None else text
        self._sides = [side for side in self._heard if text is not None or side != "clean"]
        self.texts = {
            side: found
            for side, found in {"reference": self._reference, **self._heard}.items()
            if isinstance(found, str)
        }
        self.words = 0

    def score(self, values: dict[str, dict[str, float | None]], reasons: dict[str, str]) -> None:
        """Add the word error rates to the values of each side, or the reasons to `reasons`."""
        for side in self._sides:
            try:
                values[side][WER], self.words = self._errors(self._heard[side])
            except ScoreError as error:
                values[side][WER] = None
                reasons[f"{side}.{WER}"] = str(error)

    def _errors(self, text: str | ScoreError) -> WordErrors:
        if self._reference is None:
            raise ScoreError("there is no text, and no clean recording to recognise")
        if isinstance(self._reference, ScoreError):
            raise self._reference
        if isinstance(text, ScoreError):
            raise text
        return word_errors(text, self._reference)


class Recogniser:
    """Runs a command that recognises speech; a context manager.

    A command with `{}` is started for each recording, with the path of a WAV file (16 kHz, mono, 16
    bit) in place of `{}`, and prints the text. A command without it is started `jobs` times; it
    reads a path per line on stdin, and answers each with the text on one line of stdout. It has to
    flush its output, and loads its model only once. A line that is a JSON object has the text in
    the field `text` or `t`.

    Args:
        command: split like a command line of a POSIX shell; no shell runs it.
        jobs: number of recordings that are recognised at a time.

    Raises:
        SettingsError: the command is empty or has an open quotation mark.
        DependencyError: the program does not start, or jiwer is not installed.

    Example:
        >>> with Recogniser("echo {} nothing") as recogniser:
        ...     text = recogniser.submit(np.zeros((1, 1600), np.float32), 16000).result()
        >>> text.endswith("nothing")
        True
    """

    def __init__(self, command: str, jobs: int = 1) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise SettingsError(f"the recogniser {command!r} cannot be split: {error}") from error
        if not self._arguments or not self._arguments[0]:
            raise SettingsError("the command of the recogniser is empty")
        require("jiwer", extra="metrics")
        self._each = any(PLACE in argument for argument in self._arguments)
        self._folder = tempfile.TemporaryDirectory(prefix="audioae-asr-")
        self._pool = ThreadPoolExecutor(jobs)
        self._processes = _Processes()
        self._idle: queue.SimpleQueue[_Server | None] = queue.SimpleQueue()
        for _ in range(jobs):
            self._idle.put(None)

    def __enter__(self) -> Recogniser:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error nobody asks for the remaining texts. Without one, all are there.
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._processes.stop()
        self._pool.shutdown(wait=True)
        while not self._idle.empty():
            if (server := self._idle.get()) is not None:
                server.stop()
        self._folder.cleanup()

    def submit(self, waveform: Array, sample_rate: int) -> Future[str]:
        """Start recognising a recording.

        Args:
            waveform: `[channels, samples]`; the mean of the channels is recognised.
            sample_rate: Hz.

        Returns:
            The text. Its `result()` raises `ScoreError` if the command fails.
        """
        return self._pool.submit(self._recognise, waveform, sample_rate)

    def _recognise(self, waveform: Array, sample_rate: int) -> str:
        mono = resample(waveform.mean(axis=0, keepdims=True), sample_rate, RATE)
        with tempfile.NamedTemporaryFile(suffix=".wav", dir=self._folder.name) as file:
            path = Path(file.name)
            write(path, mono.clip(-1, 1), RATE, subtype="PCM_16", overwrite=True)
            return _text_of(self._run(path) if self._each else self._ask(path))

    def _run(self, path: Path) -> str:
        arguments = [argument.replace(PLACE, str(path)) for argument in self._arguments]
        process = self._processes.start(arguments, subprocess.DEVNULL)
        try:
            answer, complaint = process.communicate(timeout=TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise ScoreError(f"the recogniser takes longer than {TIMEOUT_SECONDS:g} s") from error
        if process.returncode:
            raise ScoreError(
                f"the recogniser ended with exit code {process.returncode}: {_last_line(complaint)}"
            )
        return answer

    def _ask(self, path: Path) -> str:
        server = self._idle.get()
        try:
            if server is not None and not server.is_running:
                server.stop()
                server = None
            if server is None:
                server = _Server(self._processes.start(self._arguments, subprocess.PIPE))
            return server.ask(path)
        finally:
            self._idle.put(server)


class _Processes:
    """The running recognisers. None starts after `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._running: list[subprocess.Popen[str]] = []

    def start(self, arguments: Sequence[str], stdin: int) -> subprocess.Popen[str]:
        """Start a process. Raises `DependencyError` if its program is missing."""
        with self._lock:
            if self._stopped:
                raise ScoreError("the evaluation has ended")
            try:
                process = subprocess.Popen(
                    arguments,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
            except OSError as error:
                raise DependencyError(f"the recogniser does not start: {error}") from error
            self._running = [one for one in self._running if one.poll() is None]
            self._running.append(process)
        return process

    def stop(self) -> None:
        """End all processes."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.kill()


class _Server:
    """A recogniser that answers a line with a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._complaint = ""
        self._readers = [
            threading.Thread(target=self._read_answers, daemon=True),
            threading.Thread(target=self._read_complaints, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(self, path: Path) -> str:
        """Send a path and wait for the text. Raises `ScoreError` if there is none."""
        asked = _pipe(self._process.stdin)
        try:
            asked.write(f"{path}\n")
            asked.flush()
            answer = self._answers.get(timeout=TIMEOUT_SECONDS)
        except OSError:
            answer = ""
        except queue.Empty as error:
            self.stop()
            raise ScoreError(
                f"the recogniser does not answer in {TIMEOUT_SECONDS:g} s; expected one line of "
                "text for each path on its stdin, or a command with {}"
            ) from error
        if not answer:
            self.stop()
            raise ScoreError(
                f"the recogniser ended with exit code {self._process.returncode}: "
                f"{_last_line(self._complaint)}; expected one line of text for each path on its "
                "stdin, or a command with {}"
            )
        return answer

    def stop(self) -> None:
        """End the process."""
        if self.is_running:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            try:
                _pipe(pipe).close()
            except OSError:  # a line that the process did not take
                continue

    def _read_answers(self) -> None:
        for line in _pipe(self._process.stdout):
            self._answers.put(line)
        self._answers.put("")  # the process has ended

    def _read_complaints(self) -> None:
        for line in _pipe(self._process.stderr):
            self._complaint = line


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None  # all three were asked for
    return pipe


def _text_of(answer: str) -> str:
    """The text of an answer: its JSON field, or its lines joined."""
    text = " ".join(answer.split())
    if text.startswith("{"):
        try:
            values = json.loads(text)
        except json.JSONDecodeError:
            return text
        for key in TEXT_KEYS:
            if isinstance(values.get(key), str):
                return " ".join(values[key].split())
    return text


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1].strip()

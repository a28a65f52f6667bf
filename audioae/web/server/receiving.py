"""Receive uploads: the body of a request goes to disk as it arrives, and bodies that are too large,
too slow or cut off are refused.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

import python_multipart
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from audioae.web.server.guard import RefusedError
from audioae.web.server.uploads import TooLargeError, Upload, UploadStore, clean_name, suffix_of

GRACE_SECONDS, LEAST_RATE = 30.0, 2048.0  # of a body, and then its average in bytes per second
FORM_BYTES = 2**16  # of a form around its file
WRITE_BYTES = 2**20  # that are written at once


async def receive_upload(request: Request, upload: Upload, store: UploadStore) -> None:
    """Write the body of a request to the file of an upload as it arrives.

    The body is the recording itself, or a form (multipart/form-data) whose first file is it; the
    form then has its name, too.

    Raises:
        RefusedError: it has no file, is too slow or is cut off.
        TooLargeError, NoSpaceError: it is too large.
    """
    limit = store.limits.max_bytes
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    is_form = kind == b"multipart/form-data"
    declared = _declared_length(request)
    if declared is not None:
        _check_size(declared - (FORM_BYTES if is_form else 0), limit)
        store.check_space(declared)
    with upload.source.open("xb") as file:
        sink = _Sink(file, upload, store)
        take: Callable[[bytes], object] = sink.write
        form = None
        if is_form:
            form = _Form(options.get(b"boundary", b""), sink)
            take = form.write
        try:
            async for chunk in _chunks(request, store.limits.idle_seconds):
                take(chunk)
                if sink.waiting > WRITE_BYTES:
                    await asyncio.to_thread(sink.flush)
            await asyncio.to_thread(sink.flush)
        except (FormParserError, UnicodeDecodeError) as error:
            raise RefusedError(400, f"the form cannot be read ({error})") from error
        if form is not None:
            form.finish()
    if not upload.num_bytes:
        raise RefusedError(422, f"{upload.name} is empty; expected a recording")
    final = upload.folder / f"input{suffix_of(upload.name)}"
    if final != upload.source:
        os.rename(upload.source, final)
        upload.source = final


def _declared_length(request: Request) -> int | None:
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() and text.isascii() else None


def _check_size(num_bytes: int, limit: int) -> None:
    if num_bytes > limit:
        raise TooLargeError(
            f"the file is larger than {limit / 1e6:,.0f} MB, the limit of this server (--max-size)"
        )


async def _chunks(request: Request, idle_seconds: float) -> AsyncIterator[bytes]:
    """The body of a request. Raises `RefusedError` if it is too slow or cut off."""
    started, received = time.monotonic(), 0
    stream = request.stream()
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), idle_seconds)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise RefusedError(408, f"no data for {idle_seconds:g} s; send it again") from None
        except ClientDisconnect:
            raise RefusedError(400, "the upload was cut off; send it again") from None
        received += len(chunk)
        passed = time.monotonic() - started
        if passed > GRACE_SECONDS and received < LEAST_RATE * passed:
            raise RefusedError(408, "the upload is too slow; send it over a faster connection")
        if chunk:
            yield chunk


class _Sink:
    """Writes the recording in large pieces and counts its bytes."""

    def __init__(self, file: BinaryIO, upload: Upload, store: UploadStore) -> None:
        self._file, self._upload, self._store = file, upload, store
        self._pieces: list[bytes] = []
        self.waiting = 0

    def write(self, data: bytes) -> None:
        self._upload.num_bytes += len(data)
        _check_size(self._upload.num_bytes, self._store.limits.max_bytes)
        self._pieces.append(data)
        self.waiting += len(data)

    def flush(self) -> None:
        self._store.check_space(0)
        self._file.writelines(self._pieces)
        self._pieces, self.waiting = [], 0

    def rename(self, name: str) -> None:
        self._upload.name = clean_name(name)


class _Form:
    """Takes the first file from a form as it arrives."""

    def __init__(self, boundary: bytes, sink: _Sink) -> None:
        if not boundary:
            raise RefusedError(400, "the form has no boundary; send it with: curl -F file=@FILE")
        self._sink = sink
        self._taking = self.found = self._ended = False
        self._field, self._value, self._headers = b"", b"", dict[bytes, bytes]()
        self._parser = python_multipart.MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_field,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        self._parser.write(data)

    def finish(self) -> None:
        """Raise `RefusedError` unless the form was complete and had a file."""
        if not self._ended:
            raise RefusedError(400, "the form is cut off; send it again")
        if not self.found:
            raise RefusedError(400, "the form has no file; send it with: curl -F file=@FILE")

    def _begin(self) -> None:
        self._headers = {}

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end_headers(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        name = options.get(b"filename")
        self._taking = name is not None and not self.found
        if name is not None and self._taking:
            self.found = True
            self._sink.rename(_form_name(name))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._taking:
            self._sink.write(data[start:end])

    def _end_part(self) -> None:
        self._taking = False

    def _end(self) -> None:
        self._ended = True


def _form_name(name: bytes) -> str:
    """The name of a file in a form, in which quotes and line ends are written as escapes.

    Example:
        >>> _form_name(b"a%22b%22.wav")
        'a"b".wav'
    """
    for escape, plain in ((b"%22", b'"'), (b"%0D", b"\r"), (b"%0A", b"\n")):
        name = name.replace(escape, plain)
    return name.decode("utf-8", "replace")

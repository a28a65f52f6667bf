"""Files with embeddings, .npz or .parquet, written atomically and in constant memory."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audioae.audio.writer import check_target
from audioae.errors import OutputError, require
from audioae.signal.spectrogram import Array
from audioae.storage import AtomicFile, output_errors
from audioae.tasks.autoencoder import Codec
from audioae.tasks.embed import Embedding, Pooling

SUFFIXES = (".npz", ".parquet")
ROW_GROUP = 65_536  # rows that are written at once
COPY_BYTES = 2**20


@dataclass
class EmbeddingFile:
    """Writes embeddings to a .npz or .parquet file, atomically and in constant memory.

    A .npz file has the arrays `embeddings` [rows, dim], `times` [rows] (the start of each step in
    seconds, 0 for pooled rows), `file` [rows] (number of the file), `paths` and `folders` and
    `seconds` [files], and `model`, `sha256`, `pooling` and `steps_per_second`. A .parquet file has
    the columns `path`, `folder`, `time` and `embedding`, and the same values in its metadata.

    Args:
        path: the file to write.
        codec: the model.
        pooling: of the rows.

    Raises:
        OutputError: the file exists, has another suffix, or cannot be written.
        DependencyError: pyarrow is needed and missing.

    Use it in a `with` block, and call `commit` at the end. Without it, nothing is written.
    """

    path: Path
    codec: Codec
    pooling: Pooling
    overwrite: bool = False
    paths: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_embedding_path(self.path, overwrite=self.overwrite)
        self._dim = 0
        self._parquet: Any = None

    def __enter__(self) -> EmbeddingFile:
        with output_errors(self.path):
            self._file = AtomicFile(self.path)
        self._rows = None if self._is_parquet else tempfile.TemporaryFile(dir=self.path.parent)
        return self

    def __exit__(self, *_: object) -> None:
        if self._rows is not None:
            self._rows.close()
        if self._parquet is not None:
            self._parquet.close()
        self._file.discard()

    @property
    def _is_parquet(self) -> bool:
        return self.path.suffix.lower() == ".parquet"

    def add(self, embedding: Embedding, folder: str) -> None:
        """Add the rows of a file; the file with its latents, if any, is removed."""
        with output_errors(self.path):
            for number, rows in enumerate(rows_of(embedding, self.codec.info.channels)):
                self._dim = rows.shape[-1]
                if self._rows is not None:
                    self._rows.write(np.ascontiguousarray(rows, np.float32).tobytes())
                else:
                    names = (_as_text(str(embedding.path)), _as_text(folder))
                    self._add_table(rows, *names, number * ROW_GROUP)
        self.paths.append(str(embedding.path))
        self.folders.append(folder)
        self.seconds.append(embedding.seconds)
        self.counts.append(embedding.rows)
        if isinstance(embedding.steps, Path):
            embedding.steps.unlink(missing_ok=True)

    def commit(self) -> None:
        """Complete the file and give it its name."""
        with output_errors(self.path):
            if self._parquet is not None:
                self._parquet.close()
                self._parquet = None
            elif self._rows is not None:
                self._write_npz()
            self._file.commit()

    def _about(self) -> dict[str, str]:
        return {
            "model": self.codec.info.name,
            "sha256": self.codec.sha256,
            "pooling": self.pooling,
            "steps_per_second": f"{self.codec.steps_per_second:g}",
        }

    def _add_table(self, rows: Array, path: str, folder: str, first: int) -> None:
        arrow: Any = require("pyarrow", extra="tasks")
        parquet: Any = require("pyarrow.parquet", extra="tasks")
        kind = arrow.list_(arrow.float32(), rows.shape[-1])
        flat = arrow.array(np.ascontiguousarray(rows, np.float32).reshape(-1))
        table = arrow.table(
            {
                "path": arrow.array([path] * len(rows)),
                "folder": arrow.array([folder] * len(rows)),
                "time": arrow.array(self._times(len(rows), first)),
                "embedding": arrow.FixedSizeListArray.from_arrays(flat, type=kind),
            }
        ).replace_schema_metadata(self._about())
        if self._parquet is None:
            self._parquet = parquet.ParquetWriter(self._file.path, table.schema)
        self._parquet.write_table(table)

    def _times(self, rows: int, first: int = 0) -> Any:
        """The start of steps in seconds, `[rows]`."""
        is_pooled = self.pooling != "none"
        at = np.zeros(rows) if is_pooled else first + np.arange(rows)
        return (at / self.codec.steps_per_second).astype(np.float32)

    def _write_npz(self) -> None:
        """A .npz file is a zip archive of .npy files; the largest is copied in blocks."""
        assert self._rows is not None
        files = np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)
        times = [self._times(count) for count in self.counts] or [self._times(0)]
        arrays: dict[str, Any] = {
            "times": np.concatenate(times),
            "file": files,
            "paths": np.array(self.paths, dtype=np.str_),
            "folders": np.array(self.folders, dtype=np.str_),
            "seconds": np.array(self.seconds),
            **{name: np.array(value) for name, value in self._about().items()},
        }
        shape = (sum(self.counts), self._dim)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        self._rows.seek(0)
        with zipfile.ZipFile(self._file.path, "w", zipfile.ZIP_STORED) as archive:
            with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, header)
                shutil.copyfileobj(self._rows, member, COPY_BYTES)
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


def _as_text(name: str) -> str:
    """A name as Parquet can hold it: bytes that are not UTF-8 are written as \\udcxx."""
    return name.encode("utf-8", "backslashreplace").decode()


def rows_of(embedding: Embedding, channels: int) -> Iterator[Array]:
    """The rows of an embedding in blocks of at most `ROW_GROUP`, `[rows, dim]` each."""
    if embedding.steps is None:
        yield embedding.pooled[None]
    elif isinstance(embedding.steps, Path):
        with embedding.steps.open("rb") as file:
            while data := file.read(4 * channels * ROW_GROUP):
                yield np.frombuffer(data, np.float32).reshape(-1, channels)
    else:
        for at in range(0, len(embedding.steps), ROW_GROUP):
            yield embedding.steps[at : at + ROW_GROUP]


def check_embedding_path(path: Path, *, overwrite: bool) -> None:
    """Raise `OutputError` if embeddings cannot be written to `path`; called before any work."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"{path} has the suffix {path.suffix!r}; expected {' or '.join(SUFFIXES)}"
        )
    if path.suffix.lower() == ".parquet":
        require("pyarrow.parquet", extra="tasks")
    check_target(path, overwrite=overwrite)

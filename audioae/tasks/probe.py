"""A linear probe: how well a linear classifier tells labelled recordings apart by their embeddings.

Cross-validation keeps recordings of one source (a speaker, a machine, a longer recording) in one
fold. The accuracy stands beside that of two baselines with the same classifier: the mean and
standard deviation of the mel bands, and PCA with as many components as the latent has channels.
"""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audioae.errors import DataError, SettingsError, counted, nearest, require
from audioae.fields import parse_json
from audioae.signal.spectrogram import Array

PENALTIES = (0.01, 0.1, 1.0)  # candidates for C of the logistic regression
INNER_FOLDS = 3  # of the choice of C
MOST_ITERATIONS = 2000


@dataclass(frozen=True)
class ProbeRow:
    """The result of one kind of vectors.

    Args:
        name: "latent", "mel statistics" or "PCA".
        dimensions: length of a vector.
        accuracy: mean over the folds, 0..1.
        spread: standard deviation over the folds.
        folds: accuracy of each fold.
    """

    name: str
    dimensions: int
    accuracy: float
    spread: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Args:
        rows: one for each kind of vectors; all have the same folds.
        files, classes, sources: how many there were.
        chance: share of the most frequent class.
        dropped: classes with too few sources, which were left out.
    """

    rows: tuple[ProbeRow, ...]
    files: int
    classes: int
    sources: int
    chance: float
    dropped: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)


def probe(
    vectors: Mapping[str, Array],
    labels: Sequence[str],
    sources: Sequence[str],
    *,
    folds: int = 5,
    seed: int = 0,
) -> Probe:
    """Train and test a linear classifier by cross-validation grouped by source.

    The classifier is a logistic regression on standardised vectors. Its penalty is chosen inside
    each training part by another cross-validation grouped by source.

    Args:
        vectors: the vectors `[files, dim]` by name.
        labels: the class of each file.
        sources: the source of each file; the files of a source are in one fold.
        folds: number of folds; classes with fewer sources are left out.
        seed: of the division into folds.

    Raises:
        DataError: fewer than two classes are left.
        DependencyError: scikit-learn is not installed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> labels = ["rain", "wind"] * 20
        >>> good = rng.normal(0, 0.1, (40, 2)) + [[0, 1], [1, 0]] * 20
        >>> found = probe({"latent": good}, labels, [str(i) for i in range(40)])
        >>> found.rows[0].accuracy, found.chance
        (1.0, 0.5)
    """
    selection: Any = require("sklearn.model_selection", extra="tasks")
    of_class: dict[str, set[str]] = {}
    for label, source in zip(labels, sources, strict=True):
        of_class.setdefault(label, set()).add(source)
    dropped = tuple(sorted(label for label, own in of_class.items() if len(own) < folds))
    kept = np.array([label not in dropped for label in labels], bool)
    names, groups = np.array(labels, str)[kept], np.array(sources, str)[kept]
    if len(of_class) - len(dropped) < 2:
        raise DataError(
            f"the probe has {counted(len(of_class), 'class', 'classes')}, "
            f"{len(dropped)} of them with fewer than {folds} sources; expected at least 2 classes "
            "with so many. Label more recordings, lower --folds, or give --groups"
        )
    splitter = selection.StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    parts = list(splitter.split(np.zeros(len(names)), names, groups))
    rows = []
    for name, values in vectors.items():
        found = [
            _fold(values[kept], names, groups, train, test, seed=seed) for train, test in parts
        ]
        mean, spread = float(np.mean(found)), float(np.std(found, ddof=1))
        rows.append(ProbeRow(name, values.shape[-1], mean, spread, tuple(found)))
    _, counts = np.unique(names, return_counts=True)
    chance = float(counts.max() / counts.sum())
    return Probe(tuple(rows), len(names), len(counts), len(set(groups)), chance, dropped)


def _fold(values: Array, names: Any, groups: Any, train: Any, test: Any, *, seed: int) -> float:
    """The accuracy on the test part of a classifier that was fitted to the training part."""
    linear: Any = require("sklearn.linear_model", extra="tasks")
    selection: Any = require("sklearn.model_selection", extra="tasks")
    pipeline: Any = require("sklearn.pipeline", extra="tasks")
    preprocessing: Any = require("sklearn.preprocessing", extra="tasks")
    model = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear.LogisticRegression(max_iter=MOST_ITERATIONS)
    )
    fewest = min(len(set(groups[train][names[train] == each])) for each in set(names[train]))
    fitted, more = model, {}
    if fewest >= 2:  # else C is 1
        inner = min(INNER_FOLDS, fewest)
        cv = selection.StratifiedGroupKFold(inner, shuffle=True, random_state=seed)
        fitted = selection.GridSearchCV(model, {"logisticregression__C": PENALTIES}, cv=cv)
        more = {"groups": groups[train]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about convergence, and classes missing in an inner fold
        fitted.fit(values[train], names[train], **more)
        return float(fitted.score(values[test], names[test]))


def source_of(path: str | Path) -> str:
    """The source of a recording by its name: what comes before the first separator.

    Example:
        >>> source_of("fan/p232_017.wav"), source_of("rain-3.flac"), source_of("wind.wav")
        ('p232', 'rain', 'wind')
    """
    return re.split(r"[-_ .+]", Path(path).stem, maxsplit=1)[0] or Path(path).stem


@dataclass(frozen=True)
class Table:
    """A column of a table about recordings.

    Args:
        path: of the table, for error messages.
        values: of the column, by the absolute path of the recording.
    """

    path: Path
    values: Mapping[str, str]

    def get(self, path: Path) -> str:
        """The value of a recording. Raises `DataError` if the table lacks it."""
        place = os.path.realpath(path)
        if place not in self.values:
            raise DataError(
                f"{path} is not in the table {self.path}; add it, or leave the file out"
            )
        return self.values[place]


def read_table(text: str, column: str) -> Table:
    """Read a column of a table: CSV with a header, or JSON Lines such as a manifest.

    Args:
        text: `FILE` or `FILE:COLUMN`. Each row has the path of a recording in its column "path",
            absolute or relative to the folder of the table.
        column: used if `text` names none.

    Raises:
        DataError: the table cannot be read, or lacks the column.
    """
    name, colon, own = text.rpartition(":")
    if colon and not Path(text).exists():
        text, column = name, own
    path = Path(text)
    try:
        content = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".csv":
            rows = list(csv.DictReader(content.splitlines()))
        else:
            rows = [parse_json(line) for line in content.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"cannot read the table {path} ({reason}); expected CSV with a header, or JSON Lines"
        ) from error
    values: dict[str, str] = {}
    for row in rows:
        for needed in ("path", column):
            if not isinstance(row, dict) or row.get(needed) in (None, ""):
                known = list(row) if isinstance(row, dict) else []
                raise DataError(
                    f"a row of {path} has no value in {needed!r}{nearest(needed, known)}; "
                    f"expected the columns path and {column}"
                )
        values[os.path.realpath(path.parent / str(row["path"]))] = str(row[column])
    return Table(path, values)


def check_folds(folds: int) -> int:
    """Raise `SettingsError` for fewer than 2 folds."""
    if folds < 2:
        raise SettingsError(f"folds is {folds}; expected at least 2")
    return folds

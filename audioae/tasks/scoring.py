"""Score recordings in worker processes, and tell how well scores separate labelled recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audioae.errors import DataError, require
from audioae.tasks.anomaly import SYSTEMS, AnomalyResult, Detector
from audioae.tasks.detector_file import load_detector
from audioae.tasks.pictures import ErrorMap, draw_anomaly
from audioae.tasks.workers import Advance, Work

MAX_FPR = 0.1  # of pAUC
NORMAL = "normal"  # the label of normal recordings
ALL = "all"  # anomalies


def make_scorer(
    model: Path, threshold: float | None, pictures: Mapping[Path, Path]
) -> Work[AnomalyResult]:
    """Load a detector and return a function that scores a file; see `map_files`.

    Args:
        model: the file of the detector.
        threshold: in place of that of the detector.
        pictures: the picture to draw of each file, if any.
    """
    detector = load_detector(model).with_threshold(threshold)

    def work(path: Path, advance: Advance) -> AnomalyResult:
        picture = pictures.get(path)
        errors = ErrorMap() if picture is not None else None
        result = detector.score_file(path, errors, advance)
        if picture is not None and errors is not None:
            limit = detector.window_threshold
            settings = detector.codec.settings
            draw_anomaly(picture, result, errors, settings, window_threshold=limit)
        return result

    return work


def separate_by_label(
    results: Sequence[AnomalyResult], labels: Sequence[str], detector: Detector
) -> dict[str, list[Separation]]:
    """How well all systems separate normal recordings from all others, and from each label alone.

    Args:
        results: of the recordings.
        labels: of the recordings; "normal" is normal.
        detector: gives the thresholds.

    Returns:
        The rows of all anomalies under "all", and of each label if there are several.
    """
    kinds = sorted(set(labels) - {NORMAL})
    chosen = {ALL: set(labels)}
    if len(kinds) > 1:
        chosen |= {kind: {kind, NORMAL} for kind in kinds}
    found = {}
    for name, kept in chosen.items():
        own = [at for at, label in enumerate(labels) if label in kept]
        scores = {
            system: [
                results[at].score if system == SYSTEMS[0] else results[at].baselines[system]
                for at in own
            ]
            for system in SYSTEMS
        }
        truth = [labels[at] != NORMAL for at in own]
        found[name] = separate(scores, truth, detector.thresholds)
    return found


@dataclass(frozen=True)
class Separation:
    """How well scores separate anomalous from normal recordings.

    Args:
        system: one of `SYSTEMS`.
        auc: area under the ROC curve.
        pauc: the same up to a false positive rate of 0.1, scaled so that chance is 0.5 and a
            perfect system 1 (McClish 1989).
        f1: harmonic mean of precision and recall at the threshold of the detector.
        normal, anomalous: number of recordings.
    """

    system: str
    auc: float
    pauc: float
    f1: float
    normal: int
    anomalous: int


def separate(
    scores: Mapping[str, Sequence[float]], labels: Sequence[bool], thresholds: Mapping[str, float]
) -> list[Separation]:
    """AUC, pAUC and F1 of each system.

    Args:
        scores: of the recordings by system.
        labels: whether each recording is anomalous.
        thresholds: by system.

    Raises:
        DataError: all recordings are normal, or all anomalous.

    Example:
        >>> separate({"autoencoder": [1, 2, 3, 4]}, [0, 0, 1, 1], {"autoencoder": 3.5})[0].auc
        1.0
    """
    metrics: Any = require("sklearn.metrics", extra="tasks")
    truth = np.array(labels, bool)
    if truth.all() or not truth.any():
        raise DataError(
            f"{int(truth.sum())} of {len(truth)} recordings are labelled anomalous; expected both "
            "normal and anomalous ones"
        )
    rows = []
    for system, values in scores.items():
        auc, pauc = (
            float(metrics.roc_auc_score(truth, values, max_fpr=limit)) for limit in (None, MAX_FPR)
        )
        found = np.array(values) > thresholds[system]
        f1 = float(metrics.f1_score(truth, found, zero_division=0.0))
        rows.append(Separation(system, auc, pauc, f1, int((~truth).sum()), int(truth.sum())))
    return rows

"""Settings, progress and summary of `prepare`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from audioae.data.manifest import assign_splits
from audioae.data.prepare.decoding import Checks
from audioae.data.sources import Role
from audioae.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Checks):
    """What to prepare, and how. Sample rate and limits are those of `Checks`.

    Args:
        out: output folder: new, or of an interrupted run with the same settings.
        speech, noise, rir: folders of audio files, and CSV tables with a column `path` relative to
            the table and optionally `speaker`, `source_file`, `class`, `room`, `corpus`, `split`,
            `licence`, `language`, `quiet_to_loud_db`.
        corpora: names of public corpora such as `librispeech`, or of a part such as
            `librispeech/dev-clean`; see `corpora.catalog`.
        root: folder that contains their folders.
        licences: patterns of licences, such as "CC0*"; other files are left out, those without a
            licence too. Empty: any licence or none.
        valid_share, test_share: fractions of the seconds without a given split to hold out, by
            source (speaker, noise recording, room).
        seed: for that split.
        shard_seconds: a shard ends with the recording that reaches this length; an interruption
            costs at most one shard.
        jobs: number of decoding processes; the output does not depend on it.
    """

    out: str
    speech: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    rir: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    root: str = "."
    licences: tuple[str, ...] = ()
    valid_share: float = 0.05
    test_share: float = 0.0
    seed: int = 0
    shard_seconds: float = 1800.0
    jobs: int = 1

    def __post_init__(self) -> None:
        if not (self.speech or self.noise or self.rir or self.corpora):
            raise SettingsError(
                "nothing to prepare; name a corpus, or give a folder or table of "
                "speech, noise or room responses"
            )
        if self.sample_rate < 1000:
            raise SettingsError(
                f"sample_rate {self.sample_rate} Hz is too low; expected at "
                "least 1000 Hz, 16000 for most models"
            )
        if self.jobs < 1 or self.shard_seconds <= 0:
            raise SettingsError(
                f"jobs {self.jobs} and shard_seconds {self.shard_seconds:g} were given; expected "
                "at least 1 and more than 0"
            )
        if same := {Path(each).resolve() for each in self.speech if Path(each).is_dir()} & {
            Path(each).resolve() for each in self.noise
        }:
            raise SettingsError(
                f"{min(same)} is given as speech and as noise; a network cannot learn to tell them "
                "apart: give the folder of the clean speech and that of the noise"
            )
        assign_splits({}, valid_share=self.valid_share, test_share=self.test_share)

    def places(self, role: Role) -> tuple[str, ...]:
        """The folders and tables of one role."""
        return {"speech": self.speech, "noise": self.noise, "rir": self.rir}[role]


@dataclass(frozen=True)
class PrepareProgress:
    """Progress in one role: files done of all, seconds kept and files dropped so far."""

    role: Role
    done: int
    total: int
    kept_seconds: float
    dropped: int

    def after(self, kept: float | None) -> PrepareProgress:
        """The progress after one more file: `kept` seconds, None if it was dropped."""
        kept_seconds, dropped = self.kept_seconds + (kept or 0.0), self.dropped + (kept is None)
        return PrepareProgress(self.role, self.done + 1, self.total, kept_seconds, dropped)


@dataclass(frozen=True)
class Summary:
    """What a data folder holds.

    Args:
        hours: by role and split.
        files: number of files kept, by role.
        dropped: number of files left out, by kind of reason.
        licences: `{"kept": n, "dropped": n}` by licence: the files kept, and those left out
            because of their licence. "none given" stands for files without one.
        skipped: number of files in the folders that have no audio suffix, by suffix.
    """

    sample_rate: int
    hours: dict[str, dict[str, float]]
    files: dict[str, int]
    dropped: dict[str, int]
    licences: dict[str, dict[str, int]] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)

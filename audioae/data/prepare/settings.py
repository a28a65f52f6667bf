"""What `prepare` is asked, what it says on the way, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from audioae.data.manifest import assign_splits
from audioae.data.prepare.decoding import Checks
from audioae.data.sources import Role
from audioae.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(Checks):
    """What to prepare, and how; the sample rate and what a recording has to pass are those of
    `Checks`.

    Args:
        out: folder to write, new or one that an interrupted run with the same settings left.
        speech, noise, rir: folders of audio files, and CSV tables: column `path` relative to the
            table, and where they are there `speaker`, `source_file`, `class`, `room`, `corpus`,
            `split`, `licence`, `language`, `quiet_to_loud_db`.
        corpora: names of public corpora, `librispeech` or one part of it, `librispeech/dev-clean`;
            see `corpora.CORPORA`.
        root: folder in which their folders lie.
        valid_share, test_share: of the seconds whose split no table gives, held out by source
            (speaker, noise recording, room).
        seed: of that draw.
        shard_seconds: audio after which the next shard is begun, at the end of a recording; an
            interruption costs one shard's work at most.
        jobs: processes that decode; the output is the same for any number.
    """

    out: str
    speech: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    rir: tuple[str, ...] = ()
    corpora: tuple[str, ...] = ()
    root: str = "."
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
        assign_splits({}, valid_share=self.valid_share, test_share=self.test_share)

    def places(self, role: Role) -> tuple[str, ...]:
        """The folders and tables of one role."""
        return {"speech": self.speech, "noise": self.noise, "rir": self.rir}[role]


@dataclass(frozen=True)
class Progress:
    """How far it is: files of `role` done of all, seconds kept and files dropped so far."""

    role: Role
    done: int
    total: int
    kept_seconds: float
    dropped: int

    def after(self, kept: float | None) -> Progress:
        """One file later, of which `kept` seconds were kept, or which was dropped (None)."""
        kept_seconds, dropped = self.kept_seconds + (kept or 0.0), self.dropped + (kept is None)
        return Progress(self.role, self.done + 1, self.total, kept_seconds, dropped)


@dataclass(frozen=True)
class Summary:
    """What a data folder holds: hours by role and split, files kept by role, files dropped by the
    kind of reason.
    """

    sample_rate: int
    hours: dict[str, dict[str, float]]
    files: dict[str, int]
    dropped: dict[str, int]

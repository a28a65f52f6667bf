"""Prepare recordings for training: manifests and int16 shards at one sample rate. Each file is read
once.

The output folder has `speech.jsonl`, `noise.jsonl`, `rir.jsonl` (rows of `audioae.data.manifest`),
`dropped.jsonl` (files left out, with the reason), `data.json` (sample rate, hours, licences,
settings), `shards/` and `journal/`.

Modules in reading order:

- `settings`: settings, progress and summary of `prepare`
- `decoding`: decodes one recording, or tells why it is left out
- `shards`: writes shards so that an interrupted run can be resumed
- `measure`: measures prepared recordings and finds equal and similar ones
- `check`: checks a prepared folder before training
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioae.data.corpora.collect import corpus_entries
from audioae.data.manifest import Row, Split, assign_splits, hours, write_manifest
from audioae.data.prepare.decoding import Decoded, decode
from audioae.data.prepare.settings import PrepareProgress, PrepareSettings, Summary
from audioae.data.prepare.shards import (
    JOURNAL,
    SHARDS,
    Page,
    ShardWriter,
    output_error,
    trusted_pages,
)
from audioae.data.sources import (
    LICENCE_REASON,
    NO_LICENCE,
    ROLES,
    Dropped,
    Entry,
    Role,
    find_entries,
)
from audioae.errors import DataError, OutputError, SettingsError
from audioae.storage import lock, write_json_lines, write_text

__all__ = ["PrepareProgress", "PrepareSettings", "Summary", "prepare"]

DATA, DROPPED = "data.json", "dropped.jsonl"
IDENTITY, LOCK = "settings.json", "lock"  # in the journal
# settings that do not change the output for the same files; `licences` selects files
PLACES_AND_PACE = ("out", *ROLES, "corpora", "root", "licences", "jobs")


def prepare(
    settings: PrepareSettings, *, progress: Callable[[PrepareProgress], None] = lambda _: None
) -> Summary:
    """Prepare all files of `settings`, or the remaining ones after an interruption.

    Raises:
        DataError: a folder, table or corpus is wrong or incomplete, or no file of a role is kept.
        SettingsError: the output folder was made with other settings or from other files.
        OutputError: the output folder cannot be written, or another process is preparing it.
    """
    known = corpus_entries(settings.corpora, Path(settings.root))
    roles = [
        role
        for role in ROLES
        if settings.places(role) or any(entry.role == role for entry in known)
    ]
    others = Counter[str]()
    found = {
        role: find_entries(role, settings.places(role), known, settings.licences, others)
        for role in roles
    }
    for role, (entries, left_out) in found.items():
        _refuse_nothing(role, entries, left_out)
    folder = Path(settings.out)
    try:
        with _alone(folder):
            _check_settings(
                folder, settings, {role: entries for role, (entries, _) in found.items()}
            )
            (folder / SHARDS).mkdir(exist_ok=True)
            pages = {
                role: _fill_shards(folder, role, entries, settings, progress)
                for role, (entries, _) in found.items()
            }
            dropped = [drop for _, left_out in found.values() for drop in left_out]
            dropped += [
                drop
                for role_pages in pages.values()
                for page in role_pages
                for drop in page.dropped
            ]
            write_json_lines(folder / DROPPED, map(dataclasses.asdict, dropped))
            rows = {
                role: _rows(pages[role], entries, settings) for role, (entries, _) in found.items()
            }
            for role, role_rows in rows.items():
                _refuse_nothing(role, role_rows, dropped)
            for role, role_rows in rows.items():
                write_manifest(folder / f"{role}.jsonl", role_rows)
            return _write_data(
                folder,
                settings,
                rows,
                [page for role_pages in pages.values() for page in role_pages],
                dropped,
                others,
            )
    except OSError as error:
        raise output_error(error, folder) from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Create the folder or reuse that of an earlier run, and lock it against other processes."""
    journal = folder / JOURNAL
    if (
        not (journal / IDENTITY).exists()
        and folder.exists()
        and any(child.name != JOURNAL for child in folder.iterdir())
    ):
        raise OutputError(
            f"{folder} is not empty and audioae did not prepare it; choose a new folder"
        )
    journal.mkdir(parents=True, exist_ok=True)
    handle = os.open(journal / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not lock(handle):
            raise OutputError(
                f"another process is preparing {folder}; wait for it, or choose another folder"
            )
        yield
    finally:
        os.close(handle)


def _check_settings(
    folder: Path, settings: PrepareSettings, entries: dict[Role, list[Entry]]
) -> None:
    """Record settings and files of a new folder, or check those of the earlier run."""
    wanted = _identity(settings, entries)
    path = folder / JOURNAL / IDENTITY
    if not path.exists():
        write_text(path, json.dumps(wanted, indent=1) + "\n")
        return
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        made = {}
    for name, value in wanted.items():
        if made.get(name) != value:
            was = "other files" if name == "files" else f"{name} {made.get(name)}"
            now = "those now given" if name == "files" else str(value)
            raise SettingsError(
                f"{folder} was made with {was}, not {now}; choose another folder or remove this one"
            )


def _identity(settings: PrepareSettings, entries: dict[Role, list[Entry]]) -> dict[str, Any]:
    """Everything that the output depends on."""
    # `minus` is included only if used, so that folders made before it existed can be resumed
    listed = json.dumps(
        [
            dataclasses.astuple(entry)[: None if entry.minus else -1]
            for role in ROLES
            for entry in entries.get(role, [])
        ]
    )
    return {
        **{
            name: value
            for name, value in dataclasses.asdict(settings).items()
            if name not in PLACES_AND_PACE
        },
        "files": hashlib.sha256(listed.encode()).hexdigest(),
    }


def _fill_shards(
    folder: Path,
    role: Role,
    entries: list[Entry],
    settings: PrepareSettings,
    progress: Callable[[PrepareProgress], None],
) -> list[Page]:
    """Pages of all entries: existing ones first, then new ones."""
    pages = trusted_pages(folder, role)
    done = sum(page.num_entries for page in pages)
    if done < len(entries):
        (folder / DATA).unlink(missing_ok=True)
    rate = settings.sample_rate
    kept, dropped = sum(page.samples for page in pages), sum(len(page.dropped) for page in pages)
    so_far = PrepareProgress(role, done, len(entries), kept / rate, dropped)
    progress(so_far)
    with _decoded(entries[done:], settings) as results:
        while so_far.done < so_far.total:
            with ShardWriter(folder, role, len(pages)) as shard:
                for entry, decoded in results:
                    _store(shard, entry, decoded)
                    so_far = so_far.after(
                        None if decoded.samples is None else len(decoded.samples) / rate
                    )
                    progress(so_far)
                    if shard.page.samples >= settings.shard_seconds * rate:
                        break
            pages.append(shard.page)
    return pages


def _store(shard: ShardWriter, entry: Entry, decoded: Decoded) -> None:
    if decoded.samples is None:
        shard.drop(entry, decoded.reason)
    else:
        shard.add(entry, decoded.samples, decoded.gain_db)


@contextmanager
def _decoded(
    entries: list[Entry], settings: PrepareSettings
) -> Iterator[Iterator[tuple[Entry, Decoded]]]:
    """Entries and their decoded samples, in order, by one process or several."""
    if settings.jobs == 1 or len(entries) < 2:
        yield ((entry, decode(entry, settings)) for entry in entries)
        return
    import multiprocessing

    with ProcessPoolExecutor(
        settings.jobs, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        try:
            yield _ahead(pool, entries, settings)
        except BrokenProcessPool as error:
            raise DataError(
                "a decoding process died; run it again with one job to see at which file"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _ahead(
    pool: ProcessPoolExecutor, entries: list[Entry], settings: PrepareSettings
) -> Iterator[tuple[Entry, Decoded]]:
    """Decode a few entries ahead: enough to keep all processes busy, but not all in memory."""
    waiting: list[tuple[Entry, Future[Decoded]]] = []
    for entry in entries:
        waiting.append((entry, pool.submit(decode, entry, settings)))
        if len(waiting) >= 4 * settings.jobs:
            first, future = waiting.pop(0)
            yield first, future.result()
    for entry, future in waiting:
        yield entry, future.result()


def _rows(pages: Iterable[Page], entries: list[Entry], settings: PrepareSettings) -> list[Row]:
    """Rows of the files kept. Sources without a given split get one here, as their lengths are
    known now.
    """
    by_path = {entry.path: entry for entry in entries}
    kept = [(by_path[item.path], page.shard, item) for page in pages for item in page.kept]
    seconds: defaultdict[str, float] = defaultdict(float)
    for entry, _, item in kept:
        seconds[entry.source] += item.samples / settings.sample_rate
    given: dict[str, Split] = {entry.source: entry.split for entry in entries if entry.split}
    splits = assign_splits(
        dict(seconds),
        given=given,
        valid_share=settings.valid_share,
        test_share=settings.test_share,
        seed=settings.seed,
    )
    return [
        Row(
            path=entry.path,
            source=entry.source,
            seconds=round(item.samples / settings.sample_rate, 4),
            split=splits[entry.source],
            shard=shard,
            offset=item.offset,
            samples=item.samples,
            licence=entry.licence,
            corpus=entry.corpus,
            language=entry.language,
            kind=entry.kind,
            quiet_to_loud_db=entry.quiet_to_loud_db,
            gain_db=item.gain_db,
        )
        for entry, shard, item in kept
    ]


def _refuse_nothing(role: Role, kept: Sequence[object], dropped: list[Dropped]) -> None:
    if kept:
        return
    drops = [drop for drop in dropped if drop.role == role]
    which = (
        "its only file was dropped,"
        if len(drops) == 1
        else f"all {len(drops):,} files were dropped, the first one"
    )
    raise DataError(f"nothing kept of {role}: {which} {drops[0].path} ({drops[0].reason})")


def _licences(rows: dict[Role, list[Row]], dropped: list[Dropped]) -> dict[str, dict[str, int]]:
    """Files kept, and files left out because of their licence, by licence."""
    kept = Counter(row.licence or NO_LICENCE for role_rows in rows.values() for row in role_rows)
    reasons = (drop.reason.partition(": ") for drop in dropped)
    left_out = Counter(licence for kind, _, licence in reasons if kind == LICENCE_REASON)
    return {
        licence: {"kept": kept[licence], "dropped": left_out[licence]}
        for licence in sorted({*kept, *left_out})
    }


def _write_data(
    folder: Path,
    settings: PrepareSettings,
    rows: dict[Role, list[Row]],
    pages: list[Page],
    dropped: list[Dropped],
    others: Counter[str],
) -> Summary:
    """Write data.json, which is written last: a folder that has it is complete."""
    summary = Summary(
        sample_rate=settings.sample_rate,
        hours={
            role: {split: round(value, 4) for split, value in hours(role_rows).items()}
            for role, role_rows in rows.items()
        },
        files={role: len(role_rows) for role, role_rows in rows.items()},
        dropped=dict(Counter(drop.reason.partition(":")[0] for drop in dropped)),
        licences=_licences(rows, dropped),
        skipped=dict(sorted(others.items())),
    )
    shards = {
        page.shard: {"samples": page.samples, "sha256": page.sha256}
        for page in pages
        if page.samples
    }
    data = {
        **dataclasses.asdict(summary),
        "settings": dataclasses.asdict(settings),
        "shards": shards,
    }
    write_text(folder / DATA, json.dumps(data, indent=1) + "\n")
    return summary

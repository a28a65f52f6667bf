"""The HTML of a report and of an index of reports. Pages hold their scripts, styles, pictures and
audio, and a content security policy that allows nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import shutil
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import IO, TYPE_CHECKING, Any

from audioae import __version__
from audioae.audio import AudioInfo

if TYPE_CHECKING:
    from audioae.denoising import Verdict
    from audioae.web.origin import Provenance
    from audioae.web.pairing import Facts
    from audioae.web.report import Report

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="audioae {version}">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
"""


@dataclass(frozen=True)
class View:
    """What a page of a report shows.

    Args:
        player: description of the tracks for the player, as JSON values.
        facts: form and levels of each recording.
        notes: what a listener has to know, one sentence each.
        back: relative URL of the index; None without one.
    """

    report: Report
    player: Mapping[str, Any]
    facts: Sequence[Facts]
    notes: Sequence[str]
    provenance: Provenance
    back: str | None = None


def static(name: str) -> str:
    """The text of a file in `static/`.

    Example:
        >>> "class AudioaePlayer" in static("player.js")
        True
    """
    return resources.files("audioae.web").joinpath("static", name).read_text(encoding="utf-8")


def shown(text: object) -> str:
    """A text as HTML that shows all of it, on one line: markup is escaped, control characters and
    bytes that are not text are written as escapes.

    Example:
        >>> shown('a<b>"\\n')
        'a&lt;b&gt;&quot;\\\\n'
    """
    plain = "".join(
        each.encode("unicode_escape").decode("ascii")
        if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else each
        for each in str(text)
    )
    return html.escape(plain)


def script_json(values: Any) -> str:
    """JSON for a `<script>` element: nothing in it can end the element."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _source(text: str) -> str:
    """A source expression of a content security policy that allows one script or style."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _head(title: str, script: str) -> str:
    style = static("player.css") + static("page.css")
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src {_source(script)}",
            f"style-src {_source(style)}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return HEAD.format(version=__version__, policy=policy, title=title, style=style)


def write_page(out: IO[str], view: View, audio: IO[str]) -> None:
    """Write the page of a report.

    Args:
        out: the page, open for writing.
        audio: the elements with the audio, copied from the start.
    """
    report, script = view.report, static("player.js") + static("page.js")
    name = shown((report.after or report.before).name)
    out.write(_head(f"{name} – audioae", script))
    out.write(f'<script type="application/json" id="report">{script_json(report.to_dict())}')
    out.write("</script>\n")
    out.write("".join(_body(view, name)))
    out.write('<script type="application/json" id="player-description">')
    out.write(script_json(view.player) + "</script>\n")
    out.write(f"<script>{script}</script>\n")  # before the audio, so that it does not wait for it
    audio.seek(0)
    shutil.copyfileobj(audio, out)
    out.write("</body>\n</html>\n")


def _body(view: View, name: str) -> Iterable[str]:
    report = view.report
    yield "<main>\n"
    if view.back is not None:
        yield f'<nav><a href="{html.escape(view.back)}">← All recordings</a></nav>\n'
    yield f"<h1>{name}</h1>\n"
    if report.after is not None:
        yield f'<p class="lead">{shown(report.before)} → {shown(report.after)}</p>\n'
    else:
        yield f'<p class="lead">{shown(report.before)}</p>\n'
    yield _warnings(report.warnings)
    yield _figures(report)
    if report.num_samples or report.seconds:
        yield (
            '<div class="card"><div id="player"><noscript>Playing and drawing need JavaScript.'
            "</noscript></div></div>\n"
        )
    else:
        yield '<p class="card">The recording is empty: there is nothing to play.</p>\n'
    yield '<div class="columns">\n'
    yield _levels(view)
    yield _made(view)
    yield "</div>\n"
    notes = "".join(f"<li>{shown(note)}</li>" for note in view.notes)
    yield '<section class="card" aria-labelledby="notes"><h2 id="notes">Notes</h2>'
    yield f'<ul class="notes">{notes}</ul></section>\n'
    yield f"<footer>audioae {__version__}</footer>\n</main>\n"


def _warnings(warnings: Sequence[str]) -> str:
    if not warnings:
        return ""
    items = "".join(f"<li>{shown(each)}</li>" for each in warnings)
    return f'<div class="card warnings" role="note" aria-label="Warnings"><ul>{items}</ul></div>\n'


def _figures(report: Report) -> str:
    figures = [("duration", duration(report.seconds))]
    if report.verdict is not None:
        figures += verdict_figures(report.verdict)
    items = "".join(
        f"<div><dt>{shown(name)}</dt><dd>{shown(value)}</dd></div>" for name, value in figures
    )
    return f'<dl class="card figures">{items}</dl>\n'


def verdict_figures(verdict: Verdict) -> list[tuple[str, str]]:
    """Names and values of the verdict."""
    snr, kept, odd = verdict.input_snr_db, verdict.speech_kept, verdict.out_of_domain
    return [
        ("input SNR, estimated", unit(snr, "dB")),
        ("mean attenuation", unit(verdict.mean_attenuation_db, "dB")),
        ("largest attenuation", unit(verdict.max_attenuation_db, "dB")),
        ("speech kept", "unknown" if kept is None else f"{100 * kept:.0f} %"),
        ("out of domain, 0 to 1", "unknown" if odd is None else f"{odd:.2f}"),
    ]


def duration(seconds: float) -> str:
    """A duration, for people.

    Example:
        >>> duration(3.25), duration(75), duration(3661)
        ('3.25 s', '1:15 min', '1:01:01 h')
    """
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02} h"


def unit(value: float | None, name: str) -> str:
    """A number with one decimal and its unit; "none" for None."""
    return number(value) if value is None else f"{number(value)} {name}"


def number(value: float | None) -> str:
    """A number with one decimal; "none" for None."""
    return "none" if value is None else f"{value:.1f}".replace("-", "−")


def _levels(view: View) -> str:
    """The table of the tracks."""
    rows: list[tuple[str, list[str]]] = []
    tracks, forms = view.report.tracks, [each.info for each in view.facts]
    blank = [""] * (len(tracks) - len(forms))
    rows.append(("loudness, LUFS", [number(each.loudness_lufs) for each in tracks]))
    rows.append(("peak, dBFS", [number(each.peak_dbfs) for each in tracks]))
    rows.append(("RMS level, dBFS", [number(each.rms_dbfs) for each in tracks]))
    if len(tracks) > 1:
        rows.append(("player gain, dB", [number(each.gain_db) for each in tracks]))
    rows.append(("sample rate, Hz", [f"{each.sample_rate:,}" for each in forms] + blank))
    rows.append(("channels", [_channels(each) for each in forms] + blank))
    rows.append(("length, s", [f"{each.seconds:.3f}" for each in forms] + blank))
    rows.append(("samples", [f"{each.num_samples:,}" for each in forms] + blank))
    rows.append(("format", [f"{each.container} {each.subtype}" for each in forms] + blank))
    head = "".join(
        f'<th scope="col" class="number">{each.name.capitalize()}</th>' for each in tracks
    )
    body = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(f'<td class="number">{shown(value)}</td>' for value in values)
        + "</tr>"
        for name, values in rows
    )
    return (
        '<section class="card" aria-labelledby="levels"><h2 id="levels">Levels and format</h2>'
        '<div class="scroll" tabindex="0" role="group" aria-labelledby="levels"><table><thead><tr>'
        f"<td></td>{head}</tr></thead><tbody>{body}</tbody></table></div></section>\n"
    )


def _channels(form: AudioInfo) -> str:
    return f"{form.channels} ({' '.join(form.layout)})" if form.layout else str(form.channels)


def _made(view: View) -> str:
    """The table of model, settings and version."""
    given = view.provenance
    rows = [(f"model {name}", digest) for name, digest in given.models.items()]
    if not rows:
        rows.append(("model", "unknown; audioae denoise --record writes it beside the output"))
    rows += [(name.replace("_", " "), _value(value)) for name, value in given.settings.items()]
    if view.report.after is None:
        return ""
    if given.version is not None:
        rows.append(("audioae", given.version))
    if given.verdict is None:
        rows.append(("estimates", "from the two recordings, up to 8 kHz"))
    body = "".join(
        f'<tr><th scope="row">{shown(name)}</th><td{_hash_class(name)}>{shown(value)}</td></tr>'
        for name, value in rows
    )
    return (
        '<section class="card" aria-labelledby="made"><h2 id="made">Model and settings</h2>'
        f'<table class="wide"><tbody>{body}</tbody></table></section>\n'
    )


def _hash_class(name: str) -> str:
    return ' class="hash"' if name.startswith("model ") else ""


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    return str(value)


@dataclass(frozen=True)
class Column:
    """A column of an index.

    Args:
        name: its heading.
        kind: "text" or "number".
    """

    name: str
    kind: str = "number"


@dataclass(frozen=True)
class Cell:
    """A cell of an index.

    Args:
        text: what is shown.
        value: sorts the column; None is unknown and sorts last.
        url: relative URL of a link.
        is_problem: marks it.
    """

    text: str
    value: float | str | None
    url: str | None = None
    is_problem: bool = False


def index_page(
    title: str, lead: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]
) -> str:
    """The HTML of an index: a table that can be sorted and filtered."""
    script = static("page.js")
    head = "".join(
        f'<th scope="col" data-kind="{each.kind}"{_align(each)}><button type="button">'
        f"{shown(each.name)}</button></th>"
        for each in columns
    )
    body = "".join("<tr>" + "".join(map(_cell, columns, row)) + "</tr>\n" for row in rows)
    return (
        f"{_head(shown(title), script)}<main>\n<h1>{shown(title)}</h1>\n"
        f'<p class="lead">{shown(lead)}</p>\n<div class="card"><div class="filter">'
        '<label for="filter">Filter</label><input id="filter" type="search" autocomplete="off">'
        f'<span id="count" role="status">{len(rows)} shown</span></div>\n'
        '<div class="scroll" tabindex="0" role="group" aria-label="Recordings">'
        f'<table class="sortable"><caption class="visually-hidden">Recordings, worst first; the '
        f"headings sort</caption><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
        f"</div></div>\n<footer>audioae {__version__}</footer>\n</main>\n"
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _align(column: Column) -> str:
    return ' class="number"' if column.kind == "number" else ""


def _cell(column: Column, cell: Cell) -> str:
    text = shown(cell.text)
    if cell.url is not None:
        text = f'<a href="{html.escape(cell.url)}">{text}</a>'
    if cell.is_problem:
        text = f'<span class="problem">{text}</span>'
    value = "" if cell.value is None else shown(cell.value)
    return f'<td data-value="{value}"{_align(column)}>{text}</td>'

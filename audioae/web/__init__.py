"""Pages for looking and listening: self-contained HTML reports, plots, and the local web app.

In reading order:

- `pairing`: reads a recording, or a recording and its denoised version, block by block: aligned,
  at one sample rate, mixed down for listening.
- `columns`: waveform peaks, levels and spectrogram at a limited number of columns.
- `encoding`: parts of Opus audio, PNG images, base64.
- `measuring`: one pass over the recordings: pictures, levels, verdict, audio.
- `origin`: how a denoised recording was made.
- `report`: measures recordings and writes the page of one file.
- `page`: the HTML of a report and of an index, with the scripts and styles in `static/`.
- `folder`: reports of two folders, and their index.
- `plots`: plots of recordings with matplotlib.
- `charts`: plots of training runs and tables.
- `server`: the local web app.

`static/player.js` and `static/player.css` are the player. It takes the description of the tracks
and builds its elements in a container; the audio comes from elements of the page, `data:` URIs or
other URLs. `static/serve.*` is the page of the web app, `static/api.*` the description of its HTTP
API.
"""

from audioae.web.folder import FolderReport, Match, match_folders, page_path, write_folder_report
from audioae.web.origin import Provenance
from audioae.web.report import Report, write_report

__all__ = [
    "FolderReport",
    "Match",
    "Provenance",
    "Report",
    "match_folders",
    "page_path",
    "write_folder_report",
    "write_report",
]

"""`audioae serve`: denoise recordings in the browser, on this machine."""

from __future__ import annotations

import re
import threading
import webbrowser
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from audioae.cli.options import available_cores, models_option, quiet_option

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


class Size(click.ParamType[int]):
    """A number of bytes, with or without a unit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?B?)\s*", value.upper())
        unit = match[2] if match else ""
        unit = f"{unit}B" if unit in ("K", "M", "G", "T") else unit
        if match is None or unit not in UNITS or not (size := round(float(match[1]) * UNITS[unit])):
            self.fail(f"{value!r} is not a size; expected such as 500MB or 2GB", param, ctx)
        return size


@dataclass(frozen=True)
class ServeOptions:
    """The values of the options of `audioae serve`, under their names."""

    host: str
    port: int
    open_browser: bool
    model: tuple[str, ...]
    workers: int
    max_size: int
    max_total: int
    max_time: float
    max_jobs: int
    keep: float
    temp_dir: Path | None
    allow_host: tuple[str, ...]
    root_path: str
    quiet: bool


@click.command("serve")
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="N",
    help="Port to listen on; 0 is any free one.",
)
@click.option("--open", "open_browser", is_flag=True, help="Open the page in the web browser.")
@models_option(
    "Offer this model first: a shipped model, an .onnx file, a checkpoint or a run folder. "
    "Repeatable.  [default: the shipped models]"
)
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Number of recordings that are denoised at the same time; 0: one per core.",
)
@click.option(
    "--max-size",
    type=Size(),
    default="1GB",
    metavar="SIZE",
    help="Largest upload, such as 500MB.",
)
@click.option(
    "--max-total",
    type=Size(),
    default="20GB",
    metavar="SIZE",
    help="Most bytes of all uploads on disk at the same time.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(1),
    default=3600.0,
    metavar="SECONDS",
    help="Longest time that denoising a recording may take.",
)
@click.option(
    "--max-jobs",
    type=click.IntRange(1),
    default=200,
    metavar="N",
    help="Most recordings that wait or are denoised at the same time.",
)
@click.option(
    "--keep",
    type=click.FloatRange(0.01),
    default=60.0,
    metavar="MINUTES",
    help="Remove an upload when its page was closed for so long.",
)
@click.option(
    "--temp-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Folder for a private folder with the uploads, which is removed at the end.  [default: "
    "that of the system]",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Name under which the server is reached, besides its address, such as that of a proxy. "
    "Repeatable.  [default: localhost]",
)
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    help="Prefix of the URL behind a proxy, such as /denoise.",
    show_default=False,
)
@quiet_option
def command(**given: Any) -> None:
    """Denoise recordings in the browser, with a web app on this machine.

    Drop recordings on the page, choose model, quality and strength and hear the change, then
    denoise and download them. Uploads are in a private temporary folder, which is removed when the
    server ends. It needs the extra serve and no network.

    The server answers on 127.0.0.1 only, unless --host is given. It has no passwords: with another
    --host, everybody who reaches the machine can use it. The HTTP API is described at /docs.

    Ctrl-C ends the server. Exit codes: 0 ended, 1 the port is in use or no folder can be created,
    2 usage error, 3 model or package missing or damaged.
    """
    from audioae.errors import require

    for package in ("fastapi", "uvicorn", "python_multipart"):
        require(package, extra="serve")
    try:
        serve(ServeOptions(**given))
    except KeyboardInterrupt:  # before the server listens for it
        return


def serve(options: ServeOptions) -> None:
    """Run the server until it is interrupted."""
    from audioae.web.server.app import create_app
    from audioae.web.server.guard import HostRules
    from audioae.web.server.http import listen, make_server
    from audioae.web.server.service import DenoiseService
    from audioae.web.server.uploads import ServeFolder, ServeLimits, UploadStore

    limits = ServeLimits(
        max_bytes=options.max_size,
        total_bytes=options.max_total,
        max_jobs=options.max_jobs,
        job_seconds=options.max_time,
        keep_seconds=60 * options.keep,
    )
    models = offered_models(options.model)
    with ExitStack() as stack:
        socket = stack.enter_context(listen(options.host, options.port))
        folder = stack.enter_context(ServeFolder(options.temp_dir))
        store = UploadStore(folder.path, limits)
        workers = options.workers or available_cores()
        service = stack.enter_context(DenoiseService(store, models, workers=workers))
        rules = HostRules(options.host, options.allow_host)
        app = create_app(service, rules=rules, root_path=check_root_path(options.root_path))
        url = url_of(options.host, socket.getsockname()[1])
        if not options.quiet:
            click.echo(f"audioae is at {url} (Ctrl-C ends it)", err=True)
            if rules.is_public:
                click.echo(
                    "Warning: other machines can reach this server; it has no passwords", err=True
                )
        if options.open_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        make_server(app, stop=service.close).run(sockets=[socket])


def offered_models(names: tuple[str, ...]) -> dict[str, Path]:
    """The path of each model by name: those that are asked for, then the shipped denoisers.

    Raises:
        ModelNotFoundError: there is no such model.
        CheckpointError: a model that is asked for is damaged or no denoiser.
    """
    from audioae.denoising import ready_engine
    from audioae.pretrained import find_model, list_denoisers

    models: dict[str, Path] = {}
    for name in names:
        short = Path(name).name
        ready_engine(name)  # fails here rather than in the first job
        models[name if short in models or not short else short] = find_model(name)
    for entry in list_denoisers():
        models.setdefault(entry.name, find_model(entry.name))
    return models


def check_root_path(path: str) -> str:
    """A prefix of URLs, without a slash at its end. Raises `click.UsageError`."""
    path = path.rstrip("/")
    if path and not re.fullmatch(r"(/[\w.~-]+)+", path, re.ASCII):
        raise click.UsageError(f"--root-path is {path!r}; expected a path such as /denoise")
    return path


def url_of(host: str, port: int) -> str:
    """The URL of the page on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    return f"http://{name}:{port}/"

"""The local web app: its HTTP API and its page."""

from __future__ import annotations

import asyncio
import mimetypes
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from audioae import __version__
from audioae.denoising import PRESETS
from audioae.engine import Quality
from audioae.errors import AudioaeError
from audioae.web.server.archive import zip_chunks
from audioae.web.server.guard import GuardMiddleware, HostRules, RefusedError
from audioae.web.server.jobs import (
    FORMATS,
    MEANINGS,
    PART,
    DenoiseRequest,
    PreviewRequest,
)
from audioae.web.server.pool import JobError, JobTask
from audioae.web.server.receiving import receive_upload
from audioae.web.server.service import DenoiseService
from audioae.web.server.uploads import (
    NoSpaceError,
    TooLargeError,
    TooManyError,
    UnknownUploadError,
    Upload,
)

STATIC = Path(__file__).parents[1] / "static"
SWEEP_SECONDS = 15.0  # between searches for uploads that nobody uses
MAX_IDS = 1000  # of a query
STATUSES: tuple[tuple[type[AudioaeError], int], ...] = (
    (UnknownUploadError, 404),
    (TooLargeError, 413),
    (TooManyError, 429),
    (NoSpaceError, 507),
)

IdList = Annotated[list[str], Query(max_length=MAX_IDS, description="Ids of uploads.")]
UploadName = Annotated[
    str, Query(max_length=1000, description="Name of the file, if the body is the file itself.")
]
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
AUDIO_BODY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"audio/*": {"schema": {"type": "string", "format": "binary"}}}}
}


def query_options(
    model: Annotated[str, Query(description=MEANINGS["model"])] = "",
    preset: Annotated[str, Query(description=MEANINGS["preset"])] = "default",
    quality: Annotated[Quality | None, Query(description=MEANINGS["quality"])] = None,
    strength: Annotated[float | None, Query(description=MEANINGS["strength"])] = None,
    max_attenuation_db: Annotated[
        float | None, Query(description=MEANINGS["max_attenuation_db"])
    ] = None,
    format: Annotated[str, Query(description=MEANINGS["format"])] = "",
) -> DenoiseRequest:
    """A request to denoise, from a query."""
    return DenoiseRequest(model, preset, quality, strength, max_attenuation_db, format)


def create_app(service: DenoiseService, *, rules: HostRules, root_path: str = "") -> FastAPI:
    """The app of a service.

    Args:
        rules: names and origins that it answers to.
        root_path: prefix of the URLs behind a proxy.
    """

    @asynccontextmanager
    async def sweep(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep(service))
        yield
        task.cancel()

    app = FastAPI(
        title="audioae",
        version=__version__,
        description='Denoise recordings. Errors are JSON: {"error": MESSAGE}.',
        docs_url=None,
        redoc_url=None,
        lifespan=sweep,
    )
    app.add_middleware(GuardMiddleware, rules=rules, root_path=root_path)
    _handle_errors(app)
    _add_pages(app)
    _add_uploads(app, service)
    _add_jobs(app, service)
    _add_results(app, service)
    return app


async def _sweep(service: DenoiseService) -> None:
    """Remove uploads that nobody uses, now and then."""
    while True:
        await asyncio.sleep(min(SWEEP_SECONDS, service.limits.keep_seconds))
        await asyncio.to_thread(service.remove_idle)


def _handle_errors(app: FastAPI) -> None:
    """Report all errors as JSON."""

    def answer(status: int, message: str) -> JSONResponse:
        return JSONResponse({"error": message}, status)

    @app.exception_handler(AudioaeError)
    async def known(request: Request, error: AudioaeError) -> JSONResponse:
        if isinstance(error, RefusedError):
            return answer(error.status, str(error))
        if isinstance(error, JobError) and error.internal:
            return answer(500, str(error))
        status = next((code for kind, code in STATUSES if isinstance(error, kind)), 422)
        return answer(status, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            f"{'.'.join(map(str, each['loc'][1:])) or 'request'}: {each['msg']}"
            for each in error.errors()
        ]
        return answer(422, "; ".join(found)[:500])

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, str(error.detail))

    @app.exception_handler(OSError)
    async def disk(request: Request, error: OSError) -> JSONResponse:
        return answer(507, f"the server cannot write ({error.strerror or error}); try again later")


def _add_pages(app: FastAPI) -> None:
    """The page, its files, and the description of the API."""
    files = {path.name: path for path in STATIC.iterdir() if path.is_file()}

    def page(name: str) -> FileResponse:
        headers = {"cache-control": "no-cache"}
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return FileResponse(files[name], media_type=kind, headers=headers)

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return page("serve.html")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> FileResponse:
        return page("api.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        return page(name)


def _add_uploads(app: FastAPI, service: DenoiseService) -> None:
    """Models, uploads and their removal."""
    store = service.store

    @app.get("/api/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The models, presets, formats and limits of this server."""
        limits = service.limits
        return {
            "version": __version__,
            "models": list(service.models),
            "presets": {name: asdict(each) for name, each in PRESETS.items()},
            "qualities": ["best", "fast"],
            "formats": FORMATS,
            "limits": asdict(limits),
        }

    @app.post("/api/files", status_code=201, tags=["uploads"], openapi_extra=UPLOAD_BODY)
    async def upload_file(request: Request, name: UploadName = "") -> dict[str, Any]:
        """Upload a recording: `curl -F file=@talk.wav URL/api/files`, or the file as the body."""
        upload = await _receive(service, request, name)
        return upload.public()

    @app.get("/api/files", tags=["uploads"])
    async def list_files(id: IdList = []) -> list[dict[str, Any]]:  # noqa: B006
        """The state of several uploads. Those that do not exist are left out."""
        found = []
        for each in id:
            with suppress(UnknownUploadError):
                found.append(service.refresh(store.get(each)).public())
        return found

    @app.get("/api/files/{id}", tags=["uploads"])
    async def show_file(id: str) -> dict[str, Any]:
        """The state of an upload, and the progress of its job from 0 to 1."""
        return service.refresh(store.get(id)).public()

    @app.delete("/api/files/{id}", status_code=204, tags=["uploads"])
    async def remove_file(id: str) -> Response:
        """Cancel the job of an upload and remove its files."""
        await asyncio.to_thread(service.remove, store.get(id))
        return Response(status_code=204)


async def _receive(service: DenoiseService, request: Request, name: str) -> Upload:
    """An upload from the body of a request, checked; nothing is left of one that fails."""
    upload = service.store.create(name)
    try:
        await receive_upload(request, upload, service.store)
        upload.form = await _future(service.inspect(upload))
        if await request.is_disconnected():  # nobody will know its id
            raise RefusedError(400, "the client has left")
        upload.state, upload.used = "ready", time.monotonic()
    except BaseException:
        await asyncio.shield(asyncio.to_thread(service.remove, upload))
        raise
    return upload


def _add_jobs(app: FastAPI, service: DenoiseService) -> None:
    """Previews and jobs."""
    store = service.store

    @app.post("/api/files/{id}/preview", tags=["jobs"])
    async def preview(id: str, wanted: Annotated[PreviewRequest, Body()]) -> dict[str, Any]:
        """Denoise a short stretch at once. `after` and `before` are URLs of WAV files, relative to
        the URL of the app; `player` is one of a description for the player of the page."""
        upload = store.get(id)
        task, number = service.preview(upload, wanted)
        place = await _result(task, "a newer preview of this recording has replaced this one")
        base = f"api/files/{upload.id}/preview-{number}"
        files = {name: f"{base}/{name}.wav" for name in ("before", "after")}
        return {**place, **files, "player": f"{base}/player.json"}

    @app.post("/api/files/{id}/denoise", status_code=202, tags=["jobs"])
    async def denoise(id: str, wanted: Annotated[DenoiseRequest, Body()]) -> dict[str, Any]:
        """Start to denoise an upload."""
        upload = store.get(id)
        service.start(upload, wanted)
        return service.refresh(upload).public()

    @app.post("/api/files/{id}/cancel", tags=["jobs"])
    async def cancel(id: str) -> dict[str, Any]:
        """Cancel the job of an upload, which stays."""
        upload = store.get(id)
        await asyncio.to_thread(service.cancel, upload)
        return upload.public()

    @app.post("/api/denoise", tags=["jobs"], openapi_extra=UPLOAD_BODY, responses=AUDIO_BODY)
    async def denoise_now(
        request: Request,
        options: Annotated[DenoiseRequest, Depends(query_options)],
        name: UploadName = "",
    ) -> FileResponse:
        """Upload a recording and get it back denoised: `curl -F file=@talk.wav -o cleaned.wav
        URL/api/denoise`. Nothing of it stays on the server."""
        upload = await _receive(service, request, name)
        try:
            task = service.start(upload, options)
            waiting = _future(task)
            while not (await asyncio.wait([waiting], timeout=1.0))[0]:
                if await request.is_disconnected():
                    task.cancel()
            await _result(task, "the job was cancelled")
        except BaseException:
            await asyncio.shield(asyncio.to_thread(service.remove, upload))
            raise
        return _download(upload, BackgroundTask(service.remove, upload))


def _future(task: JobTask) -> asyncio.Future[Any]:
    """The future of a task. Its error is not logged if the request has ended meanwhile."""
    future = asyncio.wrap_future(task.future)
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


async def _result(task: JobTask, if_cancelled: str) -> Any:
    """The result of a task. Raises `JobError`, or `RefusedError` (409) if it was cancelled."""
    future = _future(task)
    await asyncio.wait([future])
    if future.cancelled() or task.stopped:
        raise RefusedError(409, if_cancelled)
    return future.result()


def _add_results(app: FastAPI, service: DenoiseService) -> None:
    """Downloads, and what the player needs."""
    store = service.store

    @app.get("/api/files/{id}/result", tags=["results"], responses=AUDIO_BODY)
    async def result(id: str) -> FileResponse:
        """Download the denoised recording."""
        return _download(store.get(id))

    @app.get("/api/zip", tags=["results"])
    async def archive(id: IdList) -> StreamingResponse:
        """Download the denoised recordings of several uploads as one ZIP archive."""
        found = [upload for upload in map(store.get, id) if upload.output is not None]
        if not found:
            raise RefusedError(409, "none of these uploads is denoised yet")
        headers = {"content-disposition": 'attachment; filename="denoised.zip"'}
        return StreamingResponse(
            zip_chunks([(each.download_name, each.output) for each in found if each.output]),
            media_type="application/zip",
            headers=headers,
        )

    @app.get("/api/files/{id}/player.json", include_in_schema=False)
    async def player(id: str) -> FileResponse:
        upload = store.get(id)
        return _part(upload.folder / f"job-{upload.job}" / "player.json")

    @app.get("/api/files/{id}/preview-{number}/player.json", include_in_schema=False)
    async def preview_player(id: str, number: int) -> FileResponse:
        return _part(store.get(id).folder / f"preview-{number}" / "player.json")

    @app.get("/api/files/{id}/preview-{number}/{part}", include_in_schema=False)
    async def preview_part(id: str, number: int, part: str) -> FileResponse:
        folder = store.get(id).folder / f"preview-{number}"
        if part in ("before.wav", "after.wav"):
            return _part(folder / part)
        return _part(folder / f"{_checked(part)}.ogg")

    @app.get("/api/files/{id}/{part}", include_in_schema=False)
    async def job_part(id: str, part: str) -> FileResponse:
        upload = store.get(id)
        return _part(upload.folder / f"job-{upload.job}" / f"{_checked(part)}.ogg")


def _checked(part: str) -> str:
    if not PART.fullmatch(part):
        raise HTTPException(404, "there is no such part of the recording")
    return part


def _part(path: Path) -> FileResponse:
    """A file that the player loads."""
    if not path.is_file():
        raise HTTPException(404, "there is no such part of the recording")
    kinds = {".json": "application/json", ".ogg": "audio/ogg", ".wav": "audio/wav"}
    return FileResponse(path, media_type=kinds[path.suffix])


def _download(upload: Upload, after: BackgroundTask | None = None) -> FileResponse:
    """The denoised recording of an upload, under the name of the user."""
    if upload.output is None:
        raise RefusedError(409, f"{upload.name} is not denoised yet")
    return FileResponse(
        upload.output,
        media_type="application/octet-stream",
        filename=upload.download_name,
        background=after,
    )

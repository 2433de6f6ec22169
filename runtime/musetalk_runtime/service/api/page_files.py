"""The files of the web pages: ``/`` for people, ``/player`` for a screen."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from musetalk_runtime.demo import SPEECH

MEDIA_TYPES = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "wav": "audio/wav",
}
PAGE_PATHS = {"index.html": "", "player.html": "player"}


def site_router() -> APIRouter:
    """Routes to the files of the pages and of their scripts, all at the root, and to the demo's speech. They are read
    now and held.
    """
    router = APIRouter(include_in_schema=False)
    page = files("musetalk_runtime.service").joinpath("page")
    for file in [*page.iterdir(), *page.joinpath("scripts").iterdir(), *page.joinpath("player").iterdir(), SPEECH]:
        suffix = file.name.rpartition(".")[2]
        if suffix in MEDIA_TYPES:
            path = f"/{PAGE_PATHS.get(file.name, file.name)}"
            router.add_api_route(path, _serve(file.read_bytes(), MEDIA_TYPES[suffix]), methods=["GET"])
    return router


def _serve(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return serve

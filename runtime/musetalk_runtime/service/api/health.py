"""``/healthz``, ``/readyz`` and ``/metrics``: the state of the service."""

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from musetalk_runtime.service.api.dependencies import ERRORS, TheService
from musetalk_runtime.service.errors import RETRY_SOON, EngineFailed, ServiceError
from musetalk_runtime.service.service import Service

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/readyz", responses={503: ERRORS[503]})
async def readyz(service: TheService) -> dict[str, str | int]:
    """Whether new sessions are taken, and how many more. Where some bundles' engines have failed, those of the others
    are: see `musetalk_engines_failed` in `/metrics`. 503 if all have.
    """
    if service.draining:
        raise ServiceError(503, "shutting_down", "the service is about to end", RETRY_SOON)
    if len(service.failed) == len(service.engines):
        raise EngineFailed("; ".join(f"bundle {name}: {error}" for name, error in service.failed.items()))
    return {"status": "ready", "free": service.free}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: TheService) -> Response:
    """Figures for Prometheus."""
    text = service.metrics.text(gauges(service))
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


def gauges(service: Service) -> dict[str, float]:
    """The values of GAUGES now, by name."""
    running = service.sessions.running
    played = [session for session in running if session.clock.now() > 1]
    return {
        "sessions": len(running),
        "viewers": service.sessions.viewers,
        "fps": sum(session.pace.factor * float(session.fps * session.pace.share) for session in running),
        "queued_frames": sum(worker.queued for worker in service.engines.values()),
        "waiting_frames": sum(session.waiting for session in running),
        "engines_failed": len(service.failed),
        "queued_seconds": sum(session.speech.queued for session in running),
        "tasks": len(asyncio.all_tasks()),
        "lead_seconds": min((session.ahead for session in played), default=0),
        "real_time_factor": min((session.pace.factor for session in played), default=0),
    }

"""``/v1/sessions/{id}/text``: text that a session says."""

from fastapi import APIRouter

from musetalk_runtime.service.api.dependencies import ERRORS, TheRunningSession, TheService
from musetalk_runtime.service.api.schema import Text, TextAnswer
from musetalk_runtime.service.api.uploads import LIMIT_SPENT, spend_of
from musetalk_runtime.service.errors import RETRY_SOON, ServiceError
from musetalk_runtime.tts.sentences import sentences

router = APIRouter(prefix="/v1/sessions/{id}", tags=["speaking"], responses=ERRORS)


@router.post("/text", status_code=202)
async def say_text(wanted: Text, session: TheRunningSession, service: TheService) -> TextAnswer:
    """Say a text after what is queued, sentence by sentence, each while the next is synthesized.

    At most 5,000 characters at once, and 10,000 that wait. A clip that is sent meanwhile comes after the sentences that
    are synthesized already. `interrupt` drops text as it drops speech. Needs the extra `say`, or `serve --tts`.
    """
    synthesizer = service.require_synthesizer()
    found = sentences(wanted.text)
    if not found:
        raise ServiceError(422, "invalid_request", "the text has nothing to say: no letter and no digit")
    if not spend_of(session.owner)(len(wanted.text.encode("utf-8", "replace"))):
        raise ServiceError(429, "upload_limit", LIMIT_SPENT, {"Retry-After": "60"})
    if not session.text.push(found, synthesizer):
        waiting = session.text.characters
        raise ServiceError(429, "queue_full", f"{waiting} characters wait already", RETRY_SOON)
    return TextAnswer(sentences=len(found), queued=session.text.characters)

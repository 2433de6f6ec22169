"""The agents' frameworks, imported before the tests do: their imports warn of what they use themselves."""

import warnings
from contextlib import suppress

with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    warnings.simplefilter("ignore")
    import pipecat.pipeline.worker
    import pipecat.services.tts_service
    import pipecat.workers.runner  # noqa: F401

with warnings.catch_warnings(), suppress(ModuleNotFoundError):
    warnings.simplefilter("ignore")
    import livekit.agents.voice.avatar  # noqa: F401

"""The folder for what a device finds out for itself, where it cannot be kept beside what it is about."""

import os
from pathlib import Path

from musetalk_runtime.core.errors import OutputError


def state_folder() -> Path:
    """Systemd's ``STATE_DIRECTORY``, else ``musetalk-edge`` in ``XDG_STATE_HOME``; raises OutputError without a home.

    https://specifications.freedesktop.org/basedir-spec/latest/: the default of the latter is ``~/.local/state``.
    """
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "musetalk-edge"
    try:
        return Path.home() / ".local" / "state" / "musetalk-edge"
    except RuntimeError:
        raise OutputError("there is no home folder to keep state in: set STATE_DIRECTORY") from None

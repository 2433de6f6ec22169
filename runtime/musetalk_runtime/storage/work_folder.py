"""A hidden folder beside an output in the making, from which interrupted work goes on."""

import shutil
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeVar

from musetalk_runtime.storage.folder import real_folder
from musetalk_runtime.storage.lock import lock_folder

T = TypeVar("T", bound="WorkFolder")


class WorkFolder:
    """``.<name>.work`` beside `output`, for one process at a time; where `output` is a link, beside what it leads to.

    Use ``with``: it makes and locks the folder, and unlocks it at the end. Attributes: ``output``, ``place`` (that,
    links followed), ``path`` (the folder). A subclass says what is in it.
    """

    activity: ClassVar[str]
    """What is done to the output, such as "being built"."""
    kept_files: ClassVar[str]
    """The pattern of the files that are worth keeping: without one the folder is removed at the end."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.place = real_folder(output)
        self.path = self.place.with_name(f".{self.place.name}.work")

    def __enter__(self: T) -> T:
        """Make the folder if need be and lock it; raises InvalidArgument while another process has it, and OSError."""
        self._lock = lock_folder(self.path, f"{self.output} is {self.activity}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not any(self.path.glob(self.kept_files)):
            self.remove()
        self._lock.close()

    def remove(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

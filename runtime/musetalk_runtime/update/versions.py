"""A folder of versions of one bundle or avatar, one of which is current.

    student/1/  student/1.json  student/2/  student/2.json  student/current -> 2

``current`` is a link, switched in one step, so that a power cut leaves the old or the new version, whole. The JSON
beside a version says which one it replaced (``previous``, null for none), whether a service has started well with it
(``proven``), and, until then, how often one has tried (``starts``). Other versions than these two are deleted, once no
service has them open.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path

from musetalk_runtime.backends.trt.certificate import drop_certificates
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, InvalidFolder, MuseTalkEdgeError, one_line
from musetalk_runtime.diagnostics.self_test import SCHEMAS, open_any, self_test
from musetalk_runtime.storage.current import CURRENT, MAX_VERSION, is_current, is_version
from musetalk_runtime.storage.durable import point, remove, remove_free
from musetalk_runtime.storage.folder import MANIFEST, kind_of, read_folder, written_aside
from musetalk_runtime.storage.lock import lock_folder
from musetalk_runtime.storage.output_file import write_output

MAX_STARTS = 3  # of a version that has never started well

Progress = Callable[[str], None]
Check = Callable[[Path], object]  # raises what is wrong with a version


@dataclass
class Record:
    """What is known of one version."""

    previous: int | None = None
    proven: bool = True
    starts: int = 0


class Versions:
    """The versions in the folder `path`, which need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, path: Path) -> "Versions | None":
        """Those that `path` is the current one of, if it is."""
        return cls(path.parent) if is_current(path) else None

    @property
    def current(self) -> int | None:
        """The current version, if there is one; raises InvalidFolder."""
        link = self.path / CURRENT
        if not link.is_symlink():
            if link.exists():
                raise InvalidFolder(f"{link}: expected a link to a version: move it away")
            return None
        name = str(link.readlink())
        if not is_version(name):
            raise InvalidFolder(f"{link}: leads to {name}, expected a version, which is a number: point it to one")
        return int(name)

    def add(self, new: Path, progress: Progress) -> int:
        """Copy the bundle or avatar at `new`, try the copy out, and make it current; gives its number.

        Raises InputNotFound, InvalidFolder, InvalidArgument, MachineError or OSError, and has changed nothing then.
        """
        kind = kind_of(new)
        with open_any(new), self._locked():
            before = self.current
            if before is not None and self._kind(before) not in (kind, None):
                raise InvalidArgument(f"{new} is no version of what is in {self.path}: the one is a {kind}")
            base = self._base(before)
            number = self._next_number(before or 0)
            self._prune({before, base})
            path = self.path / str(number)
            with written_aside(path) as work:
                progress(f"copying {new}")
                for name in (MANIFEST, *read_folder(new, kind, *SCHEMAS[kind])["files"]):
                    shutil.copyfile(new / name, work / name)
                    (work / name).chmod(0o644)  # for the service's user, whoever updates with whatever umask
                progress("trying it out")
                progress(self_test(work, progress))
            self._write(number, Record(base, proven=False))
            point(self.path / CURRENT, str(number))
            self._prune({number, base})
            return number

    def heal(self, works: Check, others: Callable[[Path], bool], progress: Progress) -> int | None:
        """Make a version current that `works`, and give its number; None where none does.

        That is the current one, else the one before it, else the newest, of the `others` that are wanted. A file or a
        strange link in the place of the link is moved away. `progress` is told of what is wrong. Raises InvalidArgument
        while another process changes the versions, and OSError.
        """
        with self._locked():
            link = self.path / CURRENT
            if os.path.lexists(link) and not is_current(link):
                progress(f"{link} leads to no version: moved to {link.name}.damaged")
                link.replace(link.with_name(f"{link.name}.damaged"))
            current = self.current
            before = None if current is None else self._read(current).previous
            for number in dict.fromkeys([current, before, *sorted(self._numbers(), reverse=True)]):
                path = self.path / str(number)
                if number is None or (number != current and not others(path)):
                    continue
                try:
                    works(path)
                except (MuseTalkEdgeError, OSError) as error:
                    progress(f"version {number} cannot be used: {one_line(error)}")
                    continue
                if number != current:
                    point(link, str(number))
                    progress(f"{self.path}: version {number} is current")
                return number
            return None

    def roll_back(self) -> int:
        """Make the version before the current one current; gives its number. Raises InvalidArgument if there is none,
        InvalidFolder if it is not whole.
        """
        with self._locked():
            return self._roll_back()

    def starting(self) -> str | None:
        """Note that a service starts with the current version; one that was tried too often is rolled back.

        Gives what happened then, in one line.
        """
        with self._locked():
            number, record = self._known()
            if record.proven:
                return None
            if record.starts >= MAX_STARTS and record.previous is not None:
                tried = f"{self.path}: version {number} was tried {record.starts} times and never started"
                return f"{tried}: rolled back to version {self._roll_back()}"
            record.starts += 1
            self._write(number, record)
            return None

    def started(self, number: int) -> None:
        """Note that a service has started well with version `number`."""
        with self._locked():
            record = self._read(number)
            if not record.proven:
                self._write(number, Record(record.previous))

    @property
    def on_trial(self) -> int | None:
        """The current version, if no service has started well with it yet."""
        number = self.current
        return None if number is None or self._read(number).proven else number

    def _known(self) -> tuple[int, Record]:
        number = self.current
        if number is None:
            raise InvalidArgument(f"{self.path}: no version is current: 'musetalk-edge update' adds one")
        return number, self._read(number)

    def _base(self, number: int | None) -> int | None:
        """The version to go back to from one that replaces `number`: it, or the one before it if it is not proven or
        is gone.
        """
        if number is None:
            return None
        record = self._read(number)
        order = (number, record.previous) if record.proven else (record.previous, number)
        return next((one for one in order if one is not None and (self.path / str(one)).exists()), None)

    def _next_number(self, before: int) -> int:
        """The number after those that were given; where there is none left, the first that is free."""
        taken = {before, *self._numbers()}
        last = max([before, *(number for number in taken if self._record(number).exists())])
        return next(number for number in chain(range(last + 1, MAX_VERSION + 1), count(1)) if number not in taken)

    def _kind(self, number: int) -> str | None:
        """What version `number` is; None where a damaged disk has left nothing that would say so."""
        try:
            return kind_of(self.path / str(number))
        except (InputNotFound, InvalidFolder):
            return None

    def _roll_back(self) -> int:
        number, record = self._known()
        if record.previous is None or not (self.path / str(record.previous)).exists():
            raise InvalidArgument(f"{self.path}: there is no version before {number}")
        try:
            open_any(self.path / str(record.previous)).close()
        except MuseTalkEdgeError as error:
            raise InvalidFolder(f"{self.path}: there is no going back from version {number}: {error}") from None
        point(self.path / CURRENT, str(record.previous))
        return record.previous

    def _read(self, number: int) -> Record:
        try:
            record = Record(**json.loads(self._record(number).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Record()
        known = record.previous is None or (isinstance(record.previous, int) and record.previous != number)
        return record if known and isinstance(record.starts, int) else Record()

    def _write(self, number: int, record: Record) -> None:
        write_output(self._record(number), json.dumps(asdict(record)), 0o644)

    def _record(self, number: int) -> Path:
        return self.path / f"{number}.json"

    def _numbers(self) -> list[int]:
        return [int(path.name) for path in self.path.iterdir() if is_version(path.name)]

    def _prune(self, kept: set[int | None]) -> None:
        for number in {*self._numbers()} - kept:
            with suppress(OSError):  # a service that was not started again since has it still
                remove_free(self.path / str(number))
                self._record(number).unlink(missing_ok=True)
        drop_certificates(self.path, [self.path / str(number) for number in self._numbers()])
        for left in self.path.glob(".*.partial"):  # by a process that was killed: this one has the lock
            left.unlink() if left.is_file() else remove(left)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with lock_folder(self.path, f"{self.path} is being changed"):
            yield

"""Standard streams that are closed or cannot be written: on stdout that is an error, on stderr it is nothing."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from musetalk_runtime.core.errors import OutputError


class _Stdout(io.FileIO):
    """Descriptor 1, or what takes its place. What comes after a failure is dropped."""

    error: OutputError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return super().write(data)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.error = OutputError(f"stdout: cannot be written: {error.strerror}")
        return memoryview(data).nbytes


class _Stderr(io.FileIO):
    """Descriptor 2. A terminal that is gone or a full disk stops nothing."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError:
            return memoryview(data).nbytes


@contextmanager
def checked_streams() -> Iterator[None]:
    """Raise OutputError in the end where something that was printed on stdout could not be written.

    No file gets the number of a standard stream that is closed: errors would be written into it. What is read from a
    closed stdin, or written to a closed stdout, fails; what is told on a closed stderr is lost.
    """
    _occupy_closed()
    stdout = None
    if sys.stdout is sys.__stdout__:  # tests and programs may have put another in its place
        stdout = _Stdout(1, "wb", closefd=False)
        sys.stdout = _text(stdout, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Stderr(2, "wb", closefd=False), sys.stderr)
    try:
        yield
    except SystemExit:
        _check(stdout)
        raise
    _check(stdout)


def _check(stdout: _Stdout | None) -> None:
    sys.stdout.flush()
    if stdout and stdout.error:
        raise stdout.error


def _text(raw: io.FileIO, before: Any) -> io.TextIOWrapper:
    """As Python opens a standard stream, also for one that was closed."""
    is_terminal = raw.isatty()
    lines = is_terminal or raw.fileno() == 2
    encoding, errors = (before.encoding, before.errors) if before else ("utf-8", "backslashreplace")
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=lines)


def _occupy_closed() -> None:
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)

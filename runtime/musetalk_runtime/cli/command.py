"""The frame of every command: errors as one line, the exit status, the end by a signal."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

from musetalk_runtime.cli.standard_streams import checked_streams
from musetalk_runtime.core.errors import MachineError, MuseTalkEdgeError, one_line


class Terminated(BaseException):
    """SIGTERM or SIGHUP, raised in the main thread so that what is half done is cleaned up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_command(
    program: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None, extra: str = "cpu"
) -> int:
    """Run `command` and give its exit status: 0, or 2 or 3 with one line on stderr for what the user can mend.

    A package that is missing is one of `extra`. Ends by the signal itself when one stops it (SIGINT, SIGTERM) or when
    the reader of its output goes away (SIGPIPE). Any other exception is a bug and comes through. ``--verbose`` among
    the arguments adds the traceback.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    previous = {number: signal.signal(number, _terminate) for number in ending_signals()}
    try:
        with checked_streams():
            return command(arguments)
    except BrokenPipeError:
        die_by(signal.SIGPIPE)
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    except Terminated as error:
        die_by(error.number)
    except (MuseTalkEdgeError, ImportError, MemoryError, OSError) as error:
        if isinstance(error, ImportError) and not (_is_missing(error) or _lacks_memory(error)):
            raise
        if "--verbose" in arguments:
            traceback.print_exc()
        message, status = _describe(error, extra)
        print(f"{program}: error: {message}", file=sys.stderr)
        return status
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ending_signals() -> tuple[int, ...]:
    """Those that ask a process to end, besides SIGINT. A closed terminal's is none where nohup has it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)


def die_by(number: int) -> NoReturn:
    """End this process as `number` would have, so that a shell or a service manager sees what happened."""
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # process 1 of a container does not die by a signal it sends itself


def _describe(error: Exception, extra: str) -> tuple[str, int]:
    """The error in one line, and the exit status it stands for."""
    if isinstance(error, ModuleNotFoundError):
        cure = "" if "pip install" in str(error) else f": pip install 'musetalk-edge[{extra}]'"
        return f"{one_line(error)}{cure}", MachineError.exit_status
    if isinstance(error, ImportError | MemoryError) or _lacks_memory(error.__cause__):
        return "memory ran out: more of it is needed, or a limit such as ulimit -v is too low", MachineError.exit_status
    status = error.exit_status if isinstance(error, MuseTalkEdgeError) else MuseTalkEdgeError.exit_status
    return one_line(error), status


def _is_missing(error: ImportError) -> bool:
    return isinstance(error, ModuleNotFoundError)


def _lacks_memory(error: BaseException | None) -> bool:
    """Whether a library could not be loaded for want of memory, as the dynamic loader says it."""
    said = str(error) if isinstance(error, ImportError) else ""
    return any(words in said for words in ("failed to map segment", "annot allocate memory"))


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    raise Terminated(number)

"""The training log: lines of ``log.jsonl``, TensorBoard's scalars, and a status line on stderr."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from musetalk_distill.train.state import write_error
from musetalk_distill.train.tensorboard_file import TensorBoardFile
from musetalk_runtime.cli.progress import StatusLine
from musetalk_runtime.core.closable import Closable
from musetalk_runtime.core.errors import OutputError
from musetalk_runtime.storage.output_file import write_output

LOG = "log.jsonl"


class TrainingLog(Closable):
    """Records of the run in the folder `run`, which goes on after `done` of `steps` steps.

    ``log.jsonl`` has a line a record: ``step``, ``loss``, its ``terms``, ``lr``, and ``samples_per_s``. What a killed
    run had written past `done` is dropped, here and in TensorBoard. Opening and recording raise OutputError on a full
    disk.
    """

    def __init__(self, run: Path, done: int, steps: int) -> None:
        self._steps = steps
        with _named(run / "tensorboard"):
            self._board = TensorBoardFile(run / "tensorboard", done)
        self.records = [record for record in _read(run / LOG) if record["step"] <= done]
        try:
            self._file = _rewrite(run / LOG, self.records)
        except OutputError:
            self._board.close()
            raise
        self._status = StatusLine()
        self._mark = (done, time.monotonic())
        self._seconds = 0.0

    def record(self, step: int, loss: float, terms: dict[str, float], rate: float, batch: int) -> None:
        """Note that after `step` steps the mean loss since the last record is `loss`, and `terms` its parts."""
        now = time.monotonic()
        steps, seconds = step - self._mark[0], now - self._mark[1]
        self._mark, speed = (step, now), steps * batch / max(seconds, 1e-9)
        record = {"step": step, "loss": loss, "terms": terms, "lr": rate, "samples_per_s": round(speed, 1)}
        self.records.append(record)
        with _named(Path(self._file.name)):
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
            parts = {f"loss/{name}": value for name, value in terms.items()}
            self._board.add(step, {"loss": loss, "lr": rate, "samples_per_s": speed, **parts})
        left = (self._steps - step) * seconds / max(1, steps)
        self._status.update(
            f"step {step} of {self._steps}, loss {loss:.4f}, {speed:.1f} samples/s, {_clock(left)} to go"
        )

    def pause(self) -> None:
        """Time until now does not count as training."""
        self._mark = (self._mark[0], time.monotonic())

    def close(self) -> None:
        """Write out what is left. Closing twice is fine."""
        self._status.close()
        with suppress(OSError):  # `record` has raised for what a full disk did not take
            self._file.close()
        self._board.close()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(f"{path}:", error.strerror) from error


def _read(file: Path) -> Iterator[dict[str, Any]]:
    """The records of `file` up to the first that is not whole."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
        try:
            yield json.loads(line)
        except ValueError:
            return


def _rewrite(file: Path, records: list[dict[str, Any]]) -> Any:
    """`file`, with `records` for its content, open for more."""
    write_output(file, "".join(json.dumps(record) + "\n" for record in records))
    return file.open("a", encoding="utf-8")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"

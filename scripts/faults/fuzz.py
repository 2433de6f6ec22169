#!/usr/bin/env python3
"""Give the readers of manifests, avatars, bundles, audio, pictures, live PCM and Opus what is nearly right.

    export PYTHONPATH=runtime:tests:tests/system
    python scripts/faults/fuzz.py BUNDLE AVATAR [--minutes 15] [--seed 0] [--only wav,pcm]

Each reader gets its share of the time in a process of its own, of bounded memory, so that a crash in a library is seen
and does no harm: what it was given last is in the report then, as are the smallest examples that hypothesis finds for
whatever is neither a result nor an error of ours. A reader that takes longer than 60 s for one thing is killed and
reported. tests/system/test_fuzz.py is a moment of it. Writes JSON; exit status 1 if anything was found.
"""

import argparse
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from test_fuzz import EXAMPLES, ogg_opus

from helpers.fuzz_readers import Readers, targets
from helpers.media import voice, write_wav

ROUND = 100  # examples between looks at the clock
MEMORY, PATIENCE = 6 << 30, 60  # bytes; seconds for one example
KEPT = 2000  # characters of an example or a traceback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("avatar", type=Path)
    parser.add_argument("--minutes", type=float, default=15.0, help="in all (default: 15)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(EXAMPLES), help=f"of {','.join(EXAMPLES)}")
    args = parser.parse_args()
    names = args.only.split(",")
    report: dict[str, Any] = {"seed": args.seed, "minutes": args.minutes, "readers": {}}
    for name in names:
        report["readers"][name] = found = hunt(name, args, args.minutes * 60 / len(names))
        print(
            f"{name}: {found['examples']} examples, found {len(found['found'])}",
            *found["found"],
            sep="\n",
            file=sys.stderr,
        )
    report["examples"] = sum(found["examples"] for found in report["readers"].values())
    print(json.dumps(report, indent=1))
    sys.exit(any(found["found"] for found in report["readers"].values()))


def hunt(name: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """One reader for so long; a process that dies is followed by another, with another seed."""
    found: list[str] = []
    outcomes: dict[str, int] = {}
    end, number = time.monotonic() + seconds, args.seed
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        while time.monotonic() < end and len(found) < 20:
            number += 1000
            here, there = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.Process(target=_work, args=(name, args, end, number, Path(folder), there))
            child.start()
            there.close()
            told: dict[str, Any] = {}
            with suppress(EOFError):
                while True:
                    told = here.recv()
            child.join()
            for key, count in told.get("outcomes", {}).items():
                outcomes[key] = outcomes.get(key, 0) + count
            found += told.get("found", [])
            if child.exitcode:
                last = (Path(folder) / "last").read_text()[:KEPT]
                found.append(f"the process ended with {child.exitcode} on {last}")
    return {"examples": sum(outcomes.values()), "outcomes": outcomes, "found": found}


def _work(name: str, args: argparse.Namespace, end: float, number: int, work: Path, there: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for said in (1, 2):  # what libraries say of spoilt files
        os.dup2(os.open(os.devnull, os.O_WRONLY), said)
    warnings.simplefilter("ignore")
    write_wav(work / "voice.wav", voice(0.12))
    readers = Readers(work, args.bundle, args.avatar, work / "voice.wav", ogg_opus())
    read, given_to = targets(readers)[name]

    def watched(**example: Any) -> None:
        (work / "last").write_text(repr(example))
        signal.alarm(PATIENCE)
        read(**example)
        signal.alarm(0)

    found: list[str] = []
    options = settings(
        max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck), print_blob=False
    )
    while time.monotonic() < end and len(found) < 5:
        number += 1
        try:
            seed(number)(options(given(**given_to)(watched)))()
        except Exception as error:
            signal.alarm(0)
            notes = "\n".join(getattr(error, "__notes__", []))
            found.append(f"{notes[:KEPT]}\n{''.join(traceback.format_exception(error))[-KEPT:]}")
        there.send({"outcomes": dict(readers.outcomes), "found": found})


if __name__ == "__main__":
    main()

"""The commands of this project as processes."""

import subprocess
import sys

MAIN = "from {} import main; raise SystemExit(main())"
EDGE, BUILD, EXPORT = (
    [sys.executable, "-c", MAIN.format(module)]
    for module in ("musetalk_runtime.cli.main", "musetalk_engines.cli", "musetalk_export.cli")
)


def port_of(service: "subprocess.Popen[str]") -> int:
    """Where it listens, from its first line: ``musetalk-edge: http://127.0.0.1:PORT/ holds 2 sessions``."""
    assert service.stderr
    return port_in(service.stderr.readline())


def port_in(line: str) -> int:
    return int(line.split("/")[2].split(":")[1])


def complaints(said: str) -> list[str]:
    """What a service said on stderr, but for how slow this machine is."""
    return [line for line in said.splitlines() if "it is measured again when idle" not in line]


def starting_slowly(module: str, seconds: float) -> tuple[str, ...]:
    """The command of the worker `module`, which takes so much longer to start."""
    run = f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return sys.executable, "-c", f"import runpy, time; time.sleep({seconds}); {run}"

"""Proxies before a service, as processes; nginx by the project's examples."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from helpers.paths import ROOT
from helpers.service_client import until

NGINX = """\
daemon off; pid nginx.pid; error_log error.log; worker_processes 1;
events {{}}
http {{
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
    {site}
}}
"""


class Proxy:
    """A proxy as a process, on one `port` for as long as it lives."""

    def __init__(self, port: int, command: Callable[[int], list[str]], folder: Path) -> None:
        self.port = port
        self._command = command(self.port)
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, cwd=self._folder, stderr=subprocess.DEVNULL)
        until(lambda: accepts(self.port), "the proxy starts")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def nginx_of_example(name: str, folder: Path, changes: Mapping[str, str]) -> list[str]:
    """The command that runs nginx, in `folder`, by an example in which each of the texts in `changes` is another."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("no nginx here: apt-get install nginx-light")
    site = (ROOT / "examples" / name).read_text()
    for old, new in {**changes, "/var/log/nginx/": ""}.items():
        assert site.count(old) == 1
        site = site.replace(old, new)
    (folder / "nginx.conf").write_text(NGINX.format(site=site))
    return [program, "-p", str(folder), "-e", "error.log", "-c", str(folder / "nginx.conf")]

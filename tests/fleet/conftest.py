"""Tests of a fleet are collected where its libraries are."""

from importlib.util import find_spec

collect_ignore_glob = [] if all(map(find_spec, ("aiohttp", "fsspec", "prometheus_client"))) else ["test_*.py"]

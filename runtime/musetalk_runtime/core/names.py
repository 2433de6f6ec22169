"""The names of bundles and avatars, which are parts of URLs and of paths."""

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

# Sourced by the other scripts: makes .venv with everything the project's work needs, once, and puts it on PATH.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=$(cat pyproject.toml | sha256sum)
if [ "$(cat .venv/stamp 2>/dev/null)" != "$stamp" ]; then
    echo "installing into .venv" >&2
    "${PYTHON:-python3}" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' >&2
    echo "$stamp" > .venv/stamp
fi
PATH="$PWD/.venv/bin:$PATH"

"""What a new Python has loaded after some statements."""

import subprocess
import sys
from collections.abc import Iterable


def loaded_modules(imports: str, names: Iterable[str]) -> list[str]:
    """Those of `names` that a new Python has loaded after the statements `imports`."""
    code = f"import sys; {imports}; print(*(name for name in {list(names)} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.split()

"""Dependencies of request handlers that run in the event loop."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from fastapi import Depends

P = ParamSpec("P")
T = TypeVar("T")


def in_loop(function: Callable[P, T]) -> Any:
    """FastAPI's ``Depends`` on `function`, which returns at once.

    FastAPI runs a plain function in a pool of threads. Then it would meet what belongs to the event loop in another
    thread, and each request would wait for that thread, once for each of its dependencies.
    """

    @wraps(function)
    async def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        return function(*arguments, **keywords)

    return Depends(call)

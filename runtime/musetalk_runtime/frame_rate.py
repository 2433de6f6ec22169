"""The frame rate of a stream."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from musetalk_runtime.core.errors import InvalidArgument

if TYPE_CHECKING:
    from musetalk_runtime.bundle import Bundle

RATES = (25, 24, 21, 20, 15)
HEADROOM = 1.15
SLOWEST, FASTEST = 1, 60


def parse_rate(text: str, bundle: Bundle) -> Fraction:
    """The rate `text` names: ``auto``, a number or a fraction, in frames a second; raises InvalidArgument."""
    if text == "auto":
        return auto_rate(bundle)
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise InvalidArgument(f"fps {text!r}: expected 'auto' or a number such as 25 or 30000/1001") from None
    if not SLOWEST <= rate <= FASTEST or rate.denominator > 1001:
        raise InvalidArgument(f"fps {text} is out of range [{SLOWEST}, {FASTEST}]")
    return rate


def auto_rate(bundle: Bundle) -> Fraction:
    """The highest of RATES that the generation rate measured by build-engines beats by 15%, else the lowest."""
    return next((Fraction(rate) for rate in RATES if generation_rate(bundle) >= rate * HEADROOM), Fraction(RATES[-1]))


def generation_rate(bundle: Bundle) -> float:
    """Frames a second the generator makes with its best batch size."""
    return max(size * 1000 / ms for size, ms in bundle.batch_ms.items())

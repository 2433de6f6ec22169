"""The choice whether generated faces get the detail and the colours of the avatar's own frames."""

from typing import Literal, get_args

Detail = Literal["auto", "off"]
"""``auto``: where a face agrees with the frame that it is painted onto. ``off``: nowhere."""
DETAILS: tuple[Detail, ...] = get_args(Detail)

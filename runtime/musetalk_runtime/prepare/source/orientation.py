"""How a stored picture is turned and mirrored to be shown: by a display matrix, or by EXIF."""

import struct
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

DEGENERATE = 1e-3  # of a matrix that shows nothing: determinant by the product of its rows' lengths
EXIF_TAG = 0x112
NUMBERS = {3: "H", 4: "I"}  # TIFF's types of 16 and 32 bits


@dataclass(frozen=True)
class Orientation:
    """Rows and columns are exchanged if ``transposed``; then the picture is mirrored along x and y."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    def applied(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`picture` ``[rows, columns, ...]`` as it is shown: a view."""
        shown = picture.swapaxes(0, 1) if self.transposed else picture
        return shown[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]


UPRIGHT = Orientation()
BY_EXIF = {  # EXIF 2.32, tag 0x112
    2: Orientation(mirrored_x=True),
    3: Orientation(mirrored_x=True, mirrored_y=True),
    4: Orientation(mirrored_y=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, mirrored_x=True),
    7: Orientation(transposed=True, mirrored_x=True, mirrored_y=True),
    8: Orientation(transposed=True, mirrored_y=True),
}


def of_matrix(matrix: bytes) -> Orientation:
    """The nearest to a display matrix as FFmpeg has it: nine int32, of which the first, second, fourth and fifth say
    where the axes of the stored picture point. One that would show nothing is none.
    """
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    size = ((a * a + b * b) * (c * c + d * d)) ** 0.5
    if not size or abs(a * d - b * c) < DEGENERATE * size:
        return UPRIGHT
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, a < 0, d < 0)
    return Orientation(True, c < 0, b < 0)


def of_exif(tiff: bytes) -> Orientation:
    """What EXIF says, by the bytes from its TIFF header on; upright where there are none."""
    return BY_EXIF.get(_orientation_tag(tiff), UPRIGHT)


def of_angle(degrees: int) -> Orientation:
    """The right angle nearest to one that is counted anticlockwise."""
    return BY_EXIF.get({90: 8, 180: 3, 270: 6}.get(round(degrees / 90) * 90 % 360, 1), UPRIGHT)


def _orientation_tag(tiff: bytes) -> int:
    """The value in the first directory after a TIFF header, 0 for none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 0
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 0
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        if tag == EXIF_TAG and kind in NUMBERS:
            return int(struct.unpack_from(f"{order}{NUMBERS[kind]}", tiff, entry + 8)[0])
    return 0

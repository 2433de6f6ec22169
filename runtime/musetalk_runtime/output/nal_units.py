"""The NAL units of H.264, in an access unit as Annex B has it: each after a start code (ITU-T H.264, annex B)."""

import struct

START_CODE = b"\0\0\1"
IDR_SLICE, SEQUENCE_PARAMETERS = 5, 7  # types


def has_idr(access_unit: bytes) -> bool:
    """Whether it holds a slice of an IDR picture."""
    at = access_unit.find(START_CODE)
    while 0 <= at < len(access_unit) - 3:
        if _type(access_unit, at) == IDR_SLICE:
            return True
        at = access_unit.find(START_CODE, at + 3)
    return False


def with_parameters(keyframe: bytes, parameters: bytes) -> bytes:
    """A keyframe's access unit with the `parameters` sets that a container has in its head, if it has none itself."""
    if parameters and _type(keyframe, keyframe.find(START_CODE)) != SEQUENCE_PARAMETERS:
        return parameters + keyframe
    return keyframe


def length_prefixed(access_unit: bytes) -> bytes:
    """It as MP4 has it: each NAL unit after its length in 4 bytes (ISO/IEC 14496-15, section 5.3.2)."""
    units = [unit.rstrip(b"\0") for unit in access_unit.split(START_CODE)]  # none ends in a zero byte
    return b"".join(struct.pack(">I", len(unit)) + unit for unit in units if unit)


def _type(access_unit: bytes, at: int) -> int:
    """That of the unit whose start code is there."""
    return access_unit[at + len(START_CODE)] & 0x1F

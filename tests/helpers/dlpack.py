"""What is in a DLPack capsule."""

import ctypes
from typing import Any


class DlTensor(ctypes.Structure):
    """The start of a DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("ndim", ctypes.c_int32),
        ("dtype", ctypes.c_uint32),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
    ]


def dl_tensor(capsule: Any) -> DlTensor:
    """What is in a DLPack capsule, which must outlive it."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return DlTensor.from_address(pointer(capsule, b"dltensor"))

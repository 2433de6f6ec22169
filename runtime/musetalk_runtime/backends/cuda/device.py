"""The GPU of this machine: its context, memory and driver, and the status of CUDA calls."""

import os
from typing import Any

from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.core.system_memory import system_memory


def open_device(index: int = 0) -> Any:
    """The ``cuda.core.Device`` number `index`, its primary context current in the calling thread.

    Other threads call its ``set_current()`` before they use it. Kernels are loaded when first used, as CUDA does by
    itself from 12.2 on: TensorRT and its libraries bring a gigabyte of them. Raises MachineError without cuda.core,
    driver or GPU.
    """
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    try:
        from cuda.core import Device
    except ImportError as error:
        raise MachineError(f"cuda.core is not usable ({error}): pip install 'musetalk-edge[gpu]'") from None
    try:
        device = Device(index)
        device.set_current()
    except Exception as error:  # the loader's, cuda.core's and cuda.bindings' exceptions share no base but Exception
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineError(f"no usable NVIDIA GPU: {reason}") from None
    return device


def is_integrated() -> bool:
    """Whether the GPU whose context is current shares the system's memory, as GB10 and Jetsons do."""
    from cuda.bindings import driver

    integrated = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_INTEGRATED
    return bool(check(driver.cuDeviceGetAttribute(integrated, check(driver.cuCtxGetDevice()))))


def free_memory() -> tuple[int, int]:
    """Bytes free and in all, for the GPU whose context is current.

    They are the system's where the GPU is integrated. CUDA counts the page cache as used there, though it is given back
    to whoever needs it.
    """
    from cuda.bindings import driver

    if is_integrated():
        return system_memory()
    free, total = check(driver.cuMemGetInfo())
    return int(free), int(total)


def driver_version() -> str:
    """The driver's version ("580.65.06"), or the CUDA version it brings ("CUDA 13.0") where only that can be read."""
    try:
        from cuda.core import system

        return ".".join(f"{part:02d}" for part in system.get_kernel_mode_driver_version())
    except Exception:  # no NVML, as on some Jetsons
        from cuda.bindings import driver

        version = int(check(driver.cuDriverGetVersion()))
        return f"CUDA {version // 1000}.{version % 1000 // 10}"


def check(result: tuple[Any, ...]) -> Any:
    """What a ``cuda.bindings`` call returned beside its status: nothing, a value or a tuple of them.

    Raises MachineError if the GPU is out of memory, and RuntimeError for any other failure.
    """
    from cuda.bindings import driver

    status, *values = result
    if status != driver.CUresult.CUDA_SUCCESS:
        if status == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise MachineError("the GPU is out of memory: end other programs on it, or use a smaller avatar or batch")
        _, text = driver.cuGetErrorString(status)
        raise RuntimeError(f"CUDA: {status.name}: {text.decode() if text else 'unknown'}")
    if len(values) > 1:
        return tuple(values)
    return values[0] if values else None

"""The supported families, and which one builds."""

from contextlib import suppress

from musetalk_engines.modelset import ModelSet
from musetalk_engines.trt.families.family import Family
from musetalk_engines.trt.families.strongly_typed import StronglyTyped
from musetalk_engines.trt.families.weakly_typed import WeaklyTyped
from musetalk_runtime.core.errors import InvalidArgument, MachineError

FAMILIES: tuple[Family, ...] = (StronglyTyped(), WeaklyTyped())  # the first that will do is preferred


def family_of(version: str) -> Family:
    """The family of a TensorRT `version` (``8.6.0``); raises MachineError for one that is not supported."""
    major, minor = (int(number) for number in version.split(".")[:2])
    for family in FAMILIES:
        if family.supports(major, minor):
            return family
    raise MachineError(f"TensorRT {version} is not supported: install 8.6, 10 or 11")


def family_for(models: ModelSet, precision: str) -> Family:
    """The first family that makes plans of `precision` of `models`; where none does, the first of all."""
    for family in FAMILIES:
        with suppress(InvalidArgument):
            family.check_precision(models, precision)
            return family
    return FAMILIES[0]

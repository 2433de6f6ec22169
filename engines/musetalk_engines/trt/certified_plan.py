"""A plan that was built and certified, as the manifest and the work folder describe it."""

from dataclasses import asdict, dataclass
from typing import Any

from musetalk_engines.trt.profiles import Profile
from musetalk_runtime.certification.check import CertifiedOutput


@dataclass(frozen=True)
class CertifiedPlan:
    """The plan in ``file``: ``ms`` are milliseconds a run by profile, from and to arrays on the host."""

    graph: str
    file: str
    profiles: list[Profile]
    variant: str
    certified: list[CertifiedOutput]
    ms: list[float]
    build_seconds: float
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """For the manifest, where it stands under its graph's name beside the hashes of all files."""
        return {name: value for name, value in asdict(self).items() if name not in {"graph", "sha256"}}

    @classmethod
    def from_record(cls, fields: dict[str, Any]) -> "CertifiedPlan":
        """From ``asdict``'s fields, once they were JSON; raises TypeError, KeyError or AttributeError for others."""
        rows = [CertifiedOutput(**row) for row in fields["certified"]]
        profiles = [{name: tuple(shape) for name, shape in shapes.items()} for shapes in fields["profiles"]]
        return cls(**{**fields, "certified": rows, "profiles": profiles})

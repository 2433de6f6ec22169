"""How a service is set up."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.service.session.push_targets import check_targets

LEADS = (0.5, 10.0)  # seconds


@dataclass(frozen=True)
class Settings:
    """`sessions` run at once at most, None for what the bundle's measured rate allows; `lead` seconds are generated
    ahead of playback; a session without viewer and speech ends after `idle` seconds; running streams have `grace`
    seconds to end in; `viewers` watch at once at most; `targets` are the URLs, by name, that streams may be sent to,
    where ``{id}`` stands for the session's id. Raises InvalidArgument.
    """

    sessions: int | None = None
    lead: float = 2.0
    idle: float = 300.0
    grace: float = 10.0
    viewers: int = 256
    targets: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_lead(self.lead)
        check_targets(self.targets)
        if self.sessions is not None and not 1 <= self.sessions <= 1000:
            raise InvalidArgument(f"sessions {self.sessions} is out of range [1, 1000]")


def check_lead(lead: float) -> None:
    """Raise InvalidArgument for a lead out of range."""
    if not LEADS[0] <= lead <= LEADS[1]:
        raise InvalidArgument(f"lead {lead:g} is out of range [{LEADS[0]:g}, {LEADS[1]:g}] s")

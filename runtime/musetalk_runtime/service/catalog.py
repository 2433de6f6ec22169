"""The catalog of bundles and avatars by name, and which go together."""

from collections.abc import Mapping
from dataclasses import dataclass

from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.bundle import Bundle
from musetalk_runtime.core.errors import AvatarMismatch, InvalidArgument
from musetalk_runtime.core.names import NAME
from musetalk_runtime.service.errors import ServiceError


@dataclass(frozen=True)
class Pairing:
    """The names of a bundle and of an avatar that goes with it."""

    bundle: str
    avatar: str


class Catalog:
    """Bundles and avatars by name. An avatar goes with every bundle whose encoder made its latents.

    Raises InvalidArgument for a name that is not one, AvatarMismatch for an avatar that goes with no bundle.
    """

    def __init__(self, bundles: Mapping[str, Bundle], avatars: Mapping[str, Avatar]) -> None:
        for name in bundles:
            _check_name("bundle", name)
        self.bundles = dict(bundles)
        self.avatars: dict[str, Avatar] = {}
        for name, avatar in avatars.items():
            self.add(name, avatar)

    def add(self, name: str, avatar: Avatar) -> None:
        """Add an avatar."""
        _check_name("avatar", name)
        self._bundles_of(avatar)
        self.avatars[name] = avatar

    def remove(self, name: str) -> None:
        """Close an avatar that no session uses, and forget it."""
        self.avatars.pop(name).close()

    def bundles_of(self, name: str) -> list[str]:
        """The names of the bundles that the avatar `name` goes with, in the order they were given."""
        return self._bundles_of(self.avatars[name])

    def pairings(self) -> list[Pairing]:
        """Every bundle with every avatar that goes with it."""
        return [Pairing(bundle, name) for name in self.avatars for bundle in self.bundles_of(name)]

    def find(self, avatar: str, bundle: str | None) -> Pairing:
        """The pairing of `avatar` with `bundle`, or with the only one that goes with it; raises ServiceError."""
        if avatar not in self.avatars:
            raise ServiceError(404, "unknown_avatar", f"no avatar {avatar!r}: expected one of {sorted(self.avatars)}")
        fitting = self.bundles_of(avatar)
        if bundle is None and len(fitting) == 1:
            return Pairing(fitting[0], avatar)
        if bundle is None:
            raise ServiceError(
                422, "which_bundle", f"avatar {avatar!r} goes with several bundles: name one of {fitting}"
            )
        if bundle not in self.bundles:
            raise ServiceError(404, "unknown_bundle", f"no bundle {bundle!r}: expected one of {sorted(self.bundles)}")
        if bundle not in fitting:
            raise ServiceError(422, "bundle_mismatch", f"avatar {avatar!r} goes with {fitting}, not with {bundle!r}")
        return Pairing(bundle, avatar)

    def _bundles_of(self, avatar: Avatar) -> list[str]:
        mismatches, fitting = [], []
        for name, bundle in self.bundles.items():
            try:
                avatar.check(bundle.spec)
                fitting.append(name)
            except AvatarMismatch as error:
                mismatches.append(error)
        if not fitting:
            raise mismatches[0]
        return fitting


def _check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"{what} name {name!r}: expected letters, digits, - and _, 64 at most")

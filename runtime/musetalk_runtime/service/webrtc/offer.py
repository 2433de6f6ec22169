"""The SDP offer of a viewer, checked before aiortc opens anything for it."""

import logging
import re
from ipaddress import ip_address

from aiortc.sdp import MediaDescription, SessionDescription

from musetalk_runtime.service.delivery.packet_feed import Kind
from musetalk_runtime.service.errors import ServiceError

MAX_CANDIDATES = 32  # of ICE, that are looked at
KINDS: tuple[Kind, ...] = ("video", "audio")
RECEIVES = ("recvonly", "sendrecv")
CANDIDATE = re.compile(r"a=candidate:\S+ \d+ \S+ \d+ (?P<host>\S+) (?P<port>\d{1,5}) ")
log = logging.getLogger(__name__)


def read_offer(text: str) -> tuple[str, list[Kind]]:
    """The offer `text`, as aiortc is to have it, and what it wants; raises ServiceError if it is no offer to receive.

    The names that browsers give for their own addresses (``.local``) are left out: the browser comes to this service's
    addresses, and asking for names would take a second.
    """
    try:
        offer = SessionDescription.parse(text)
    except Exception as error:  # aiortc's parser raises all kinds of errors
        raise bad_offer(error) from None
    found = [media.kind for media in offer.media]
    kinds = [kind for kind in KINDS if kind in found]
    if not kinds or len(kinds) < len(found):
        raise bad_offer(f"expected one video and one audio track at most, found {', '.join(found[:8]) or 'none'}")
    if not any(media.direction in RECEIVES for media in offer.media):
        raise bad_offer("it receives nothing: expected recvonly or sendrecv")
    if not all(_is_secured(media) for media in offer.media):
        raise bad_offer("it lacks ice-ufrag, ice-pwd or fingerprint")
    names = sorted(media.rtp.muxId or "" for media in offer.media)
    bundles = [sorted(group.items) for group in offer.group if group.semantic == "BUNDLE"]
    if not all(names) or (bundles != [names] and (bundles or len(names) > 1)):
        raise bad_offer("expected all tracks in one BUNDLE")
    return _cleaned(text), kinds


def bad_offer(reason: object) -> ServiceError:
    """The error for an offer that cannot be answered."""
    log.debug("an SDP offer was refused: %r", reason)
    text = str(reason).partition("\n")[0][:200] or type(reason).__name__
    return ServiceError(422, "bad_offer", f"this SDP offer cannot be answered: {text}")


def _is_secured(media: MediaDescription) -> bool:
    ice, dtls = media.ice, media.dtls
    return bool(ice and ice.usernameFragment and ice.password and dtls and dtls.fingerprints)


def _is_address(candidate: str) -> bool:
    found = CANDIDATE.match(candidate)
    if not found or not 0 < int(found["port"]) < 1 << 16:
        return False
    try:
        ip_address(found["host"])
    except ValueError:
        return False
    return True


def _cleaned(text: str) -> str:
    lines, candidates = [], 0
    for line in text.splitlines():
        if line.startswith("a=candidate"):
            candidates += 1
            if candidates > MAX_CANDIDATES or not _is_address(line):
                continue
        if line != "a=end-of-candidates":  # the browser's own checks tell of more
            lines.append(line)
    return "\r\n".join([*lines, ""])

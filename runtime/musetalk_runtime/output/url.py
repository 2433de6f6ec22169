"""Output URLs, and the container that each protocol takes."""

import re

from musetalk_runtime.core.errors import InvalidArgument

URL_CONTAINERS = {
    "rtmp": "flv",
    "rtmps": "flv",
    "rtsp": "rtsp",
    "srt": "mpegts",
    "udp": "mpegts",
    "tcp": "mpegts",
    "http": "mp4",
    "https": "mp4",
}


def url_container(url: str) -> str:
    """The FFmpeg format for an output `url`, by its scheme; raises InvalidArgument, which does not name the URL."""
    scheme, found, rest = url.partition("://")
    if not found or not rest or scheme.lower() not in URL_CONTAINERS:
        raise InvalidArgument(f"{scheme[:20]}: expected a URL of {', '.join(URL_CONTAINERS)}")
    return URL_CONTAINERS[scheme.lower()]


def without_password(url: str) -> str:
    """`url` as errors name it: without the name and password before its host."""
    return re.sub(r"(?<=://)[^/]*@", "", url)

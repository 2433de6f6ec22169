"""RTCP sender reports that tell the stream's own times, so that receivers play sound and picture in step.

aiortc reports when a packet was sent. What is sent a little early or late would be taken for an offset.
"""

from typing import Any

from aiortc.clock import current_ntp_time
from aiortc.rtp import RtcpSrPacket

from musetalk_runtime.service.webrtc.tracks import PacketTrack

NTP_SECOND = 1 << 32


class SenderReports:
    """Corrects the reports of one connection's senders: its tracks have one clock."""

    def __init__(self) -> None:
        self._zero: int | None = None  # the NTP time of the stream's second 0

    def correct(self, sender: Any, track: PacketTrack) -> None:
        """Have the reports of aiortc's `sender` tell the times of `track`; none is sent before its first packet."""
        send = sender._send_rtcp

        async def send_corrected(packets: list[Any]) -> None:
            reports = [packet for packet in packets if isinstance(packet, RtcpSrPacket)]
            if reports and track.sent is None:
                return
            for report in reports:
                report.sender_info.ntp_timestamp = self._ntp_time(track)
            await send(packets)

        sender._send_rtcp = send_corrected

    def _ntp_time(self, track: PacketTrack) -> int:
        at = round((track.sent or 0) * NTP_SECOND)
        if self._zero is None:
            self._zero = current_ntp_time() - at
        return self._zero + at

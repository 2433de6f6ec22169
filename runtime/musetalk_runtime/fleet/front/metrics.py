"""Figures of a fleet for Prometheus, and for autoscalers that read them there."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from musetalk_runtime.fleet.front.front import Front

PREFIX = "musetalk_fleet_"
BEGINS = {
    "begun": "Sessions begun by this process.",
    "retried": "Devices that refused a session, which then went to another.",
    "lost": "Devices that did not answer when a session was to begin.",
    "refused": "Sessions that no device had room for.",
}


class FleetCollector(Collector):
    """What a front end knows of its devices: the same from each of its processes. Counts are of this process."""

    def __init__(self, front: Front) -> None:
        self._front = front

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The figures now."""
        rooms, up = self._front.rooms, self._front.rooms.up
        sessions = sum(status.sessions for status in up.values())
        drained = sum(not status.admits for status in up.values())
        gauges = {
            "devices": ("Devices there are, also those that do not answer.", len(rooms.known)),
            "devices_up": ("Devices that answer.", len(up)),
            "devices_drained": ("Devices that answer and let no new sessions in.", drained),
            "devices_wanted": ("Devices that are wanted, by --spare.", self._front.devices_wanted),
            "sessions": ("Sessions that run.", sessions),
            "free": ("Sessions that still fit.", rooms.free),
        }
        for name, (tell, value) in gauges.items():
            yield GaugeMetricFamily(PREFIX + name, tell, value)
        for name, tell in BEGINS.items():
            yield CounterMetricFamily(PREFIX + name, tell, self._front.counts[name])


def metrics_text(front: Front) -> bytes:
    """The figures in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(FleetCollector(front))
    return bytes(generate_latest(registry))

"""Several bundles in one service, who is let in, and engines that fail."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from helpers.processes import port_of
from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.backends.ort.renderer import CpuRenderer
from musetalk_runtime.core.errors import AvatarMismatch, InvalidArgument, MachineError
from musetalk_runtime.service.catalog import Catalog, Pairing
from musetalk_runtime.service.scheduling import admission as admission_module
from musetalk_runtime.service.scheduling import remeasurement, warm_up
from musetalk_runtime.service.scheduling.admission import Admission
from musetalk_runtime.service.scheduling.capacity import Cost
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

FREE = Cost(1e-6, 1e-6, 0.0)
FAILING = """
import threading
from musetalk_runtime.core.errors import MachineError
from musetalk_runtime.service import service
from musetalk_runtime.service.scheduling import engine_worker
made = engine_worker.EngineWorker.begin
def fail():
    raise MachineError("the GPU has fallen off the bus")
def begin(self, jobs):
    if jobs[0].request.speech.index > 30:
        {failing}
    return made(self, jobs)
engine_worker.EngineWorker.begin = begin
from musetalk_runtime.cli.main import main
raise SystemExit(main())
"""


@pytest.fixture
def opened(bundle: Path, avatar: Path) -> Iterator[tuple[dict[str, Bundle], Avatar]]:
    """Two bundles that go with the avatar, and one that does not."""
    with (
        Bundle.open(bundle) as one,
        Bundle.open(bundle) as two,
        Bundle.open(bundle) as foreign,
        Avatar.open(avatar) as a,
    ):
        foreign.spec = replace(foreign.spec, encoder_id="0" * 64)
        yield {"one": one, "two": two, "foreign": foreign}, a


@pytest.fixture
def service(opened: tuple[dict[str, Bundle], Avatar]) -> Service:
    bundles, avatar = opened
    made = Service(bundles, {"anna": avatar}, Settings(grace=0.5))
    made.admission.costs = dict.fromkeys(made.catalog.pairings(), FREE)
    return made


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with serving(service) as server:
        yield Client(server.port)


def test_a_session_names_its_bundle_where_several_fit(client: Client, service: Service) -> None:
    assert client.ask("GET", "/v1/avatars")[1][0]["bundles"] == ["one", "two"]
    for wanted, status, code in [
        ({}, 422, "which_bundle"),
        ({"bundle": "three"}, 404, "unknown_bundle"),
        ({"bundle": "foreign"}, 422, "bundle_mismatch"),
    ]:
        found, answer = client.ask("POST", "/v1/sessions", {"avatar": "anna", **wanted})
        assert (found, answer["error"]["code"]) == (status, code)
    paths = [client.begin(avatar="anna", bundle=name) for name in ("one", "two")]
    assert [client.ask("GET", path)[1]["bundle"] for path in paths] == ["one", "two"]
    until(lambda: all(session.frames > 5 for session in service.sessions.running), "both make frames")


def test_names_and_avatars_that_do_not_go_together_are_refused(opened: tuple[dict[str, Bundle], Avatar]) -> None:
    bundles, avatar = opened
    with pytest.raises(AvatarMismatch, match="with this bundle"):
        Catalog({"foreign": bundles["foreign"]}, {"anna": avatar})
    with pytest.raises(InvalidArgument, match=r"bundle name '\.\./x'"):
        Catalog({"../x": bundles["one"]}, {})
    lone = Catalog({"one": bundles["one"], "foreign": bundles["foreign"]}, {"anna": avatar})
    assert lone.find("anna", None) == Pairing("one", "anna")


def test_what_is_measured_is_all_that_a_frame_takes(
    opened: tuple[dict[str, Bundle], Avatar], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles, avatar = opened
    spent = iter(range(100))
    monkeypatch.setattr(warm_up.time, "process_time", lambda: float(next(spent)))
    cost = warm_up.warm_up(bundles["one"], avatar)
    assert 1 / 60 < cost.cpu <= 1  # a second of the process, for the frames after the first
    assert cost.generator > 0
    assert cost.encoder == 0  # libx264 runs on the CPU


def test_sessions_are_let_in_while_what_they_take_most_of_lasts(
    opened: tuple[dict[str, Bundle], Avatar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "available_cores", lambda: 2.0)
    catalog, pairing = Catalog({"one": opened[0]["one"]}, {"anna": opened[1]}), Pairing("one", "anna")
    admission = Admission(catalog, None)
    admission.costs[pairing] = Cost(cpu=0.02, generator=0.001, encoder=0.0)
    assert admission.room([]) == 3  # 100 frames a second on two cores, 87 with something to spare
    running = [(Fraction(25), pairing)] * 3
    assert admission.room(running) == 0
    assert admission.rate(running, pairing, None) is None
    assert admission.rate(running[:2], pairing, Fraction(60)) is None
    assert admission.rate([*running[:2], (Fraction(20), pairing)], pairing, None) == 15  # of 17 that are left
    admission.costs[pairing] = Cost(cpu=0.001, generator=0.01, encoder=0.02)
    assert admission.room([]) == 1
    admission.costs[pairing] = Cost(cpu=1.0, generator=0.01, encoder=0.0)
    later = Pairing("one", "ben")
    catalog.avatars["ben"] = opened[1]
    for dear in (pairing, later):  # one that came later is as dear as the others
        assert admission.rate([], dear, None) == 15  # the first is let in all the same, and is told what to expect
        assert admission.rate([(Fraction(15), pairing)], dear, None) is None
        assert "makes 13% of the frames" in (admission.shortfall([(Fraction(15), dear)]) or "")
    assert (admission.room([]), admission.room([(Fraction(15), pairing)])) == (1, 0)
    admission.costs[pairing] = Cost(cpu=0.01, generator=0.01, encoder=0.0)
    assert admission.shortfall([(Fraction(25), pairing)]) is None


def test_as_many_as_the_operator_says_at_the_highest_rate_that_all_of_them_have(
    opened: tuple[dict[str, Bundle], Avatar], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "available_cores", lambda: 2.0)
    catalog, pairing = Catalog({"one": opened[0]["one"]}, {"anna": opened[1]}), Pairing("one", "anna")
    admission = Admission(catalog, 2)
    for cpu, rate in [(0.01, 25), (0.05, 15), (1.0, 15)]:  # 200, 40 and 2 frames a second
        admission.costs[pairing] = Cost(cpu, generator=0.001, encoder=0.0)
        running: list[tuple[Fraction, Pairing]] = []
        for room in (2, 1):
            assert (admission.room(running), admission.rate(running, pairing, None)) == (room, rate)
            running.append((Fraction(rate), pairing))
        assert (admission.room(running), admission.rate(running, pairing, None)) == (0, None)
        assert admission.rate(running[:1], pairing, Fraction(60)) == 60


def test_a_measurement_beside_other_work_is_no_dearer_than_the_cpu_time_it_takes(
    opened: tuple[dict[str, Bundle], Avatar], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundles, avatar = opened
    generate = CpuRenderer._generate

    def descheduled(self: CpuRenderer, batch: Any) -> Any:
        with self._timings.measure("generate", len(batch)):  # as if another program had the CPU in between
            time.sleep(0.3)
            return generate(self, batch)

    monkeypatch.setattr(CpuRenderer, "_generate", descheduled)
    monkeypatch.setattr(warm_up, "MAX_SECONDS", 1.0)
    cost = warm_up.warm_up(bundles["one"], avatar)
    assert cost.generator <= cost.cpu


def test_what_was_measured_is_measured_again_while_nothing_runs_and_the_best_counts(
    service: Service, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairing = Pairing("one", "anna")
    service.admission.costs = {pairing: Cost(cpu=10.0, generator=1e-9, encoder=0.0)}
    assert client.ask("GET", "/readyz")[1]["free"] == 1
    path = client.begin(avatar="anna", bundle="one", fps="auto")
    session = client.ask("GET", path)[1]
    assert session["fps"] == 15
    assert [text[:14] for text in session["warnings"]] == ["this machine m"]
    monkeypatch.setattr(service.remeasurement, "_due", 0.0)
    until(lambda: service.sessions.running[0].frames > 5, "it runs")
    assert service.remeasurement.avatar is None  # not beside a session
    client.ask("DELETE", path)
    until(lambda: not service.sessions.running, "it has ended")
    monkeypatch.setattr(service.remeasurement, "_due", 0.0)
    until(lambda: service.admission.costs[pairing].cpu < 10, "it is measured again")
    assert service.admission.costs[pairing].generator == 1e-9


def test_a_measurement_ends_for_a_session(service: Service, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {Pairing("one", "anna"): Cost(cpu=1e-6, generator=1e-6, encoder=0.0)}
    service.admission.costs = dict(before)
    begun = threading.Event()

    def measure(_bundle: Bundle, _avatar: Avatar, cancelled: Callable[[], bool]) -> Cost:
        begun.set()
        until(cancelled, "it is cancelled")
        raise warm_up.Cancelled

    monkeypatch.setattr(remeasurement, "warm_up", measure)
    monkeypatch.setattr(service.remeasurement, "_due", 0.0)
    assert begun.wait(60)
    assert service.remeasurement.avatar == "anna"
    client.begin(avatar="anna", bundle="one")
    assert service.remeasurement.join(60)
    assert service.admission.costs == before


def test_beyond_what_was_measured_is_503(client: Client, service: Service) -> None:
    dear = Cost(cpu=0.0, generator=1 / 50, encoder=0.0)
    service.admission.costs = dict.fromkeys(service.catalog.pairings(), dear)
    assert client.ask("GET", "/readyz")[1]["free"] == 1
    client.begin(avatar="anna", bundle="one", fps=25)
    assert client.ask("GET", "/readyz")[1]["free"] == 0
    with client.request("POST", "/v1/sessions", {"avatar": "anna", "bundle": "two", "fps": 25}) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert b"1 session runs" in answer.read()
    assert client.begin(avatar="anna", bundle="two", fps="auto")  # slower, it fits


def test_engines_that_fail_are_told_and_end_their_own_sessions_alone(
    client: Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "settings", Settings(grace=600))  # it is to answer until all has been asked
    path, other = (client.begin(avatar="anna", bundle=name) for name in ("one", "two"))
    viewer, bystander = Viewer(client, path), Viewer(client, other)
    events = client.events(path)
    next(events)

    def fail(_: Any) -> None:
        raise MachineError("the GPU has fallen off the bus")

    monkeypatch.setattr(service.engines["one"], "begin", fail)
    viewer.join(60)
    assert viewer.cut
    *_, (name, last) = events
    assert (name, last["state"], last["error"]) == ("state", "failed", "the GPU has fallen off the bus")
    assert client.ask("GET", "/readyz")[1] == {"status": "ready", "free": service.free}
    assert service.free > 0
    status, answer = client.ask("POST", "/v1/sessions", {"avatar": "anna", "bundle": "one"})
    assert (status, answer["error"]["code"]) == (503, "engine_failed")
    figures = client.ask("GET", "/metrics")[1]
    assert "musetalk_engines_failed 1\n" in figures
    assert not service.dead
    assert not bystander.cut
    client.ask("DELETE", other)
    bystander.join(60)
    assert not bystander.cut
    with monkeypatch.context() as all_failed:
        all_failed.setattr(service.engines["two"], "error", "so has that of the other")
        all_failed.setattr(service.engines["foreign"], "error", "and the third")
        status, answer = client.ask("GET", "/readyz")
    assert (status, answer["error"]["code"]) == (503, "engine_failed")
    assert answer["error"]["message"].startswith("bundle one: the GPU has fallen off the bus; bundle two: so has")
    monkeypatch.setattr(service, "settings", Settings(grace=0.5))
    until(lambda: service.dead, "the service is over")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("failing", "message"),
    [
        ("fail()", "the GPU has fallen off the bus"),
        (
            "engine_worker.BATCH_TIMEOUT_S = service.CLOSE_TIMEOUT_S = 0.5; threading.Event().wait()",
            "the engines have made nothing for 0.5 s",
        ),
    ],
)
def test_a_service_whose_engines_failed_or_hang_ends_so_that_it_is_started_again(
    bundle: Path, avatar: Path, failing: str, message: str
) -> None:
    options = ["-b", f"fast={bundle}", "-a", f"one={avatar}", "--port", "0", "--sessions", "2", "--grace", "1"]
    command = [sys.executable, "-c", FAILING.format(failing=failing), "serve", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        client = Client(port_of(process))
        events = client.events(client.begin())
        *_, (_, last) = events
        assert last["error"] == message
        said = process.stderr.read()
        assert process.wait(60) == 3
    assert said.splitlines()[-1].endswith(f"have failed ({message}): start the service again")

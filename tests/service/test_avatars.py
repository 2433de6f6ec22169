"""Avatars made over HTTP, from uploads, in a process beside the service."""

import asyncio
import errno
import http.client
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from helpers.avatars import YUNET, data_file
from helpers.media import moving_picture, write_video
from helpers.service_client import Client, Viewer, serving, until
from musetalk_runtime import Avatar, Bundle
from musetalk_runtime.core.errors import InvalidArgument
from musetalk_runtime.service.avatars import preparation
from musetalk_runtime.service.avatars.store import AvatarStore
from musetalk_runtime.service.avatars.upload import UploadLimits
from musetalk_runtime.service.catalog import Catalog
from musetalk_runtime.service.service import Service
from musetalk_runtime.service.settings import Settings

BOX = "200,60,320,220"
HELD = """
import threading
import musetalk_runtime.prepare.worker as worker
from musetalk_runtime.prepare import prepare
prepare_avatar = prepare.prepare_avatar
def held(path, bundle, output, options, progress):
    def tell(stage, done, total):
        progress(stage, done, total)
        if done == 10:
            progress(stage, total, total)
            threading.Event().wait(600)
    return prepare_avatar(path, bundle, output, options, tell)
prepare.prepare_avatar = held
worker.main()
"""  # musetalk_runtime.prepare.worker, which comes to its tenth frame


@pytest.fixture
def opened(bundle: Path) -> Iterator[Bundle]:
    with Bundle.open(bundle) as b:
        yield b


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "avatars"


@pytest.fixture
def service(opened: Bundle, avatar: Path, folder: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """It takes avatars, within the limits a test asks for."""
    settings = Settings(sessions=2, avatar_folder=folder, upload_limits=getattr(request, "param", UploadLimits()))
    with Avatar.open(avatar) as a:
        yield Service(opened, {"one": a}, settings)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with serving(service) as server:
        yield Client(server.port)


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of 1600x1200 pixels."""
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    cv2.imwrite(str(file), cv2.resize(moving_picture(3), (1600, 1200))[..., ::-1])
    return file.read_bytes()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Of 60 frames."""
    file = tmp_path_factory.mktemp("video") / "video.mp4"
    write_video(file, [moving_picture(k) for k in range(60)])
    return file.read_bytes()


def send(client: Client, name: str, body: Any, box: str | None = BOX) -> tuple[int, Any]:
    return client.ask("POST", f"/v1/avatars?name={name}" + (f"&face_box={box}" if box else ""), body)


def outcome(client: Client, name: str) -> dict[str, Any]:
    """How its making ended."""
    *_, (kind, last) = client.events(f"/v1/avatars/{name}")
    assert kind == "state"
    return last


def left(folder: Path) -> set[str]:
    """What lies in the folder, but for its lock."""
    found = [Path(at) / name for at, folders, files in os.walk(folder) for name in folders + files]
    return {str(path.relative_to(folder)) for path in found} - {".work", ".work/lock"}


def test_a_photo_becomes_an_avatar_that_is_there_again_after_a_restart(
    client: Client, service: Service, opened: Bundle, folder: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.store
    store, prepare = service.store, service.store.prepare

    async def prepare_when_watched(*given: Any) -> list[str]:
        while not store.new["new"].events.subscribers:
            await asyncio.sleep(0.01)
        return await prepare(*given)

    monkeypatch.setattr(store, "prepare", prepare_when_watched)
    status, answer = send(client, "new", photo, "1000,300,1600,1100")
    assert (status, answer["state"]) == (202, "waiting")
    events = list(client.events("/v1/avatars/new"))
    assert events[-1] == ("state", {"state": "ready"})
    assert ("progress", {"stage": "encoding frames", "done": 1, "total": 1}) in events
    status, answer = client.ask("GET", "/v1/avatars/new")
    assert (answer["width"], answer["height"], answer["frames"], answer["faces"]) == (1280, 960, 1, 1)
    assert answer["face_box"] == [800, 240, 1280, 880]
    assert answer["uploaded"]
    assert [(found["name"], found["state"]) for found in client.ask("GET", "/v1/avatars")[1]] == [
        ("one", "ready"),
        ("new", "ready"),
    ]
    with client.request("GET", answer["picture"]) as picture:
        seen = cv2.imdecode(np.frombuffer(picture.read(), np.uint8), cv2.IMREAD_COLOR)
    assert seen.shape == (480, 640, 3)
    assert np.abs(seen[..., ::-1].astype(int) - cv2.resize(moving_picture(3), (640, 480))).mean() < 12
    session = client.begin(avatar="new")
    assert Viewer(client, session, limit=20_000).status == 200
    assert client.ask("DELETE", "/v1/avatars/new")[1]["error"]["code"] == "in_use"
    client.ask("DELETE", session)
    until(lambda: not service.sessions.running, "the session ends")
    with pytest.raises(InvalidArgument, match="another process"):
        AvatarStore(folder, service.catalog, service.workers)
    assert {path.split("/")[0] for path in left(folder)} == {"new"}

    later = Catalog({"default": opened}, {})
    service.store._lock.close()  # as when its process ends
    (folder / ".work" / "9").mkdir()
    (folder / ".work" / "9" / "upload").write_bytes(b"half")
    (folder / "hurt").mkdir()
    again = AvatarStore(folder, later, service.workers, detail="off")
    assert list(later.avatars) == ["new"]
    assert (later.avatars["new"].detail, service.catalog.avatars["new"].detail) == ("off", "auto")
    assert "manifest.json" in again.broken["hurt"]
    assert not (folder / ".work" / "9").exists()
    shutil.copytree(folder / "new", folder / "put")
    asyncio.run(again.adopt("put"))
    assert later.avatars["put"].detail == "off"
    asyncio.run(again.delete("put", ()))
    later.remove("new")
    asyncio.run(again.close())

    assert client.ask("DELETE", "/v1/avatars/new")[0] == 204
    assert client.ask("GET", "/v1/avatars/new")[0] == 404
    assert left(folder) == {"hurt"}


def test_a_phones_photo_is_turned_as_it_was_taken(client: Client) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs the extra heif")
    pytest.importorskip("pillow_heif", reason="needs the extra heif").register_heif_opener()
    exif, file = image.Exif(), io.BytesIO()
    exif[0x112] = 6
    image.fromarray(moving_picture(0)).save(file, format="HEIF", exif=exif)
    assert send(client, "phone", file.getvalue(), "60,100,180,240")[0] == 202
    assert outcome(client, "phone")["state"] == "ready"
    ready = client.ask("GET", "/v1/avatars/phone")[1]
    assert (ready["width"], ready["height"]) == (240, 320)


@pytest.mark.slow
def test_what_is_left_out_of_an_upload_is_told(client: Client, video: bytes) -> None:
    assert send(client, "joined", video + video)[0] == 202
    assert outcome(client, "joined")["state"] == "ready"
    told = [f"what follows its byte {len(video)} is another file, which is not shown"]
    assert client.ask("GET", "/v1/avatars/joined")[1]["warnings"] == told


def test_what_cannot_be_an_avatar_is_said_in_words(client: Client, folder: Path, photo: bytes, video: bytes) -> None:
    small = cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    playlist = b"#EXTM3U\n#EXTINF:9,\nhttp://127.0.0.1:1/a.ts\n#EXT-X-ENDLIST\n"
    for name, body, message in [
        ("text", b"this is no picture\n" * 100, "not a readable video or photo"),
        ("playlist", playlist, "not a readable video or photo"),
        ("small", small, "16x16 pixels, expected at least 32x32"),
        ("half", video[: len(video) // 2], "not a readable video or photo"),
        ("outside", photo, "the face's box"),
    ]:
        assert send(client, name, body, "9000,9000,9100,9100" if name == "outside" else BOX)[0] == 202
        result = outcome(client, name)
        assert result["state"] == "failed"
        assert message in result["error"]
        assert str(folder) not in result["error"]
        assert client.ask("GET", f"/v1/avatars/{name}")[1]["error"] == result["error"]
    assert send(client, "text", photo)[0] == 202  # a name whose avatar failed is free
    assert outcome(client, "text")["state"] == "ready"
    for name, body, box, status, code in [
        ("one", photo, BOX, 409, "exists"),
        ("text", photo, BOX, 409, "exists"),
        ("x", b"", BOX, 422, "bad_media"),
        ("x", photo, None, 422, "no_detector"),
        ("x", photo, "1,2,3", 422, "invalid_request"),
        ("..%2Fx", photo, BOX, 422, "invalid_request"),
        (".work", photo, BOX, 422, "invalid_request"),
        ("a" * 65, photo, BOX, 422, "invalid_request"),
    ]:
        answer = send(client, name, body, box)
        assert (answer[0], answer[1]["error"]["code"]) == (status, code), name
    assert client.ask("DELETE", "/v1/avatars/one")[1]["error"]["code"] == "fixed"
    assert client.ask("DELETE", "/v1/avatars/nobody")[0] == 404
    for name in ("playlist", "small", "half", "outside", "text"):
        assert client.ask("DELETE", f"/v1/avatars/{name}")[0] == 204
    assert left(folder) == set()


def test_a_service_without_a_folder_takes_none(opened: Bundle, avatar: Path, photo: bytes) -> None:
    with Avatar.open(avatar) as a, serving(Service(opened, {"one": a}, Settings(sessions=2))) as server:
        client = Client(server.port)
        status, answer = send(client, "new", photo)
        assert (status, answer["error"]["code"]) == (403, "no_uploads")
        assert [found["uploaded"] for found in client.ask("GET", "/v1/avatars")[1]] == [False]


def test_deleting_ends_a_preparation_and_its_process(
    client: Client, service: Service, folder: Path, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.store
    held = partial(preparation.prepare, worker=(sys.executable, "-c", HELD))
    monkeypatch.setattr(service.store, "prepare", held)
    for name in ("first", "second"):
        assert send(client, name, video)[0] == 202
    until(lambda: client.ask("GET", "/v1/avatars/first")[1].get("progress"), "the first is at work")
    assert client.ask("GET", "/v1/avatars/first")[1]["progress"]["total"] == 60
    children = processes()
    assert len(children) == 1
    assert os.getpriority(os.PRIO_PROCESS, children[0]) > os.getpriority(os.PRIO_PROCESS, 0)
    assert client.ask("GET", "/v1/avatars/second")[1]["state"] == "waiting"
    for name in ("second", "first"):
        assert client.ask("DELETE", f"/v1/avatars/{name}")[0] == 204
    assert processes() == []
    assert left(folder) == set()
    assert list(service.avatars) == ["one"]


def test_an_avatar_that_is_deleted_before_its_upload_is_cleaned_away_is_gone(
    client: Client, service: Service, folder: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, released = shutil.rmtree, threading.Event()

    def remove_late(path: Path, **options: Any) -> None:
        if path.parent.name == ".work":
            assert released.wait(60)
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_late)
    assert send(client, "new", photo)[0] == 202
    until(lambda: "new" in service.avatars, "it is made")
    try:
        assert client.ask("DELETE", "/v1/avatars/new")[0] == 204
        assert client.ask("GET", "/v1/avatars/new")[0] == 404
        assert list(service.avatars) == ["one"]
    finally:
        released.set()
    until(lambda: not left(folder), "nothing is left")


def test_of_a_preparation_that_was_killed_it_says_what_is_known(
    client: Client, service: Service, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert service.store
    killed = partial(preparation.prepare, worker=("/bin/sh", "-c", "kill -KILL $$"))
    monkeypatch.setattr(service.store, "prepare", killed)
    assert send(client, "new", video)[0] == 202
    assert outcome(client, "new")["error"].startswith("the preparation was killed, perhaps because")


@pytest.mark.parametrize(
    "service", [UploadLimits(4 << 20, total_bytes=6 << 20, prepare_memory=300 << 20)], indirect=True
)
def test_size_memory_and_disk_are_bounded(client: Client, folder: Path) -> None:
    status, answer = send(client, "large", bytes(5 << 20))
    assert (status, answer["error"]["code"]) == (413, "too_large")
    vast = cv2.imencode(".png", np.zeros((4096, 4096, 3), np.uint8))[1].tobytes()
    assert send(client, "vast", vast)[0] == 202
    error = outcome(client, "vast")["error"]
    assert "memory" in error or "broke down" in error  # a library that gets none may end the process
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # as on a disk that is full
    try:
        status, answer = send(client, "full", bytes(3 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (status, answer["error"]["code"]) == (507, "no_storage")
    assert os.strerror(errno.EFBIG) in answer["error"]["message"]
    assert client.ask("GET", "/v1/avatars/full")[0] == 404
    assert left(folder) == set()


@pytest.mark.parametrize("service", [UploadLimits(total_bytes=80_000)], indirect=True)
def test_what_is_kept_is_bounded(client: Client, folder: Path, video: bytes) -> None:
    assert send(client, "video", video[:75_000])[0] == 202
    assert outcome(client, "video")["state"] == "failed"
    status, answer = send(client, "photo", bytes(81_000))
    assert (status, answer["error"]["code"]) == (507, "no_storage")
    assert left(folder) == set()


@pytest.mark.parametrize("service", [UploadLimits(avatars=2)], indirect=True)
def test_failures_take_no_room(client: Client, service: Service, folder: Path) -> None:
    for number in range(4):
        assert send(client, f"text{number}", b"this is no picture")[0] == 202
        assert outcome(client, f"text{number}")["state"] == "failed"
    assert service.store
    assert list(service.store.new) == ["text2", "text3"]
    assert left(folder) == set()


@pytest.mark.parametrize("service", [UploadLimits(total_bytes=300_000)], indirect=True)
def test_an_avatar_larger_than_the_room_is_refused(client: Client, folder: Path, video: bytes) -> None:
    assert len(video) < 300_000
    assert send(client, "video", video)[0] == 202
    assert "no room" in outcome(client, "video")["error"]
    assert left(folder) == set()


def test_an_upload_that_stops_leaves_nothing(client: Client, service: Service, folder: Path) -> None:
    for way in ("gone", "deleted"):
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        connection.putrequest("POST", f"/v1/avatars?name=slow&face_box={BOX}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders(b"5\r\nhello\r\n")
        until(lambda: (folder / ".work").is_dir() and left(folder), "the upload has begun")
        assert client.ask("GET", "/v1/avatars/slow")[1]["state"] == "uploading"
        if way == "gone":
            connection.close()
        else:
            assert client.ask("DELETE", "/v1/avatars/slow")[0] == 204
            assert connection.getresponse().status == 409
            connection.close()
        until(lambda: not left(folder), "the upload is cleaned away")
        assert client.ask("GET", "/v1/avatars/slow")[0] == 404
    assert service.store
    assert service.store.new == {}


def test_faces_are_found_by_the_detector_given(opened: Bundle, folder: Path, photo: bytes) -> None:
    face, detector = data_file("monalisa.png").read_bytes(), data_file(YUNET)
    with serving(Service(opened, {}, Settings(sessions=2, avatar_folder=folder, face_model=detector))) as server:
        client = Client(server.port)
        assert send(client, "lisa", face, None)[0] == 202
        assert send(client, "nobody", photo, None)[0] == 202
        assert outcome(client, "lisa")["state"] == "ready"
        x0, y0, x1, y1 = client.ask("GET", "/v1/avatars/lisa")[1]["face_box"]
        assert (x0, y0, x1, y1) == pytest.approx((107, 69, 179, 165), abs=8)  # as YuNet sees it
        assert "no face was found" in outcome(client, "nobody")["error"]
    assert {path.split("/")[0] for path in left(folder)} == {"lisa"}


def processes() -> list[int]:
    """The processes that prepare avatars for this one."""
    mine = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z" and b"prepare.worker" in (path / "cmdline").read_bytes():
                mine.append(int(path.name))
        except OSError:
            continue
    return mine


def test_the_worker_ends_with_the_service(bundle: Path, tmp_path: Path, video: bytes) -> None:
    (tmp_path / "upload").write_bytes(video)
    wanted = {
        "source": str(tmp_path / "upload"), "bundle": str(bundle), "output": str(tmp_path / "pack"),
        "face_model": None, "face_box": [200, 60, 320, 220], "max_seconds": 30, "max_side": 1280,
        "memory": 4 << 30, "seconds": 100, "file_bytes": 1 << 30,
    }  # fmt: skip
    command = [sys.executable, "-c", HELD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdin
        assert worker.stdout
        worker.stdin.write(json.dumps(wanted) + "\n")
        worker.stdin.flush()
        assert "progress" in worker.stdout.readline()
        worker.stdin.close()
        assert worker.wait(60) == 1

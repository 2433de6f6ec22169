"""The folder of uploaded avatars, which are kept from one start of the service to the next."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from musetalk_runtime.avatar.box import Box
from musetalk_runtime.avatar.pack import Avatar
from musetalk_runtime.core.detail import Detail
from musetalk_runtime.core.errors import InputNotFound, InvalidArgument, MuseTalkEdgeError, OutputError, one_line
from musetalk_runtime.prepare.worker import Request
from musetalk_runtime.service.avatars.new_avatar import NewAvatar
from musetalk_runtime.service.avatars.preparation import prepare
from musetalk_runtime.service.avatars.upload import UploadLimits, write_upload
from musetalk_runtime.service.catalog import Catalog
from musetalk_runtime.service.errors import ServiceError
from musetalk_runtime.storage.durable import sync
from musetalk_runtime.storage.lock import lock_folder

WORK = ".work"  # the folder, beside the avatars, of those that are not whole yet
T = TypeVar("T")
log = logging.getLogger(__name__)


class AvatarStore:
    """The avatars in `folder`, which are made for the first bundle of `catalog` and added to it.

    Faces are found by `face_model`, by default the bundle's. `workers` do what waits for the disk. Avatars are opened
    with `detail`.

    One process at a time has the folder. What an earlier one left half made is deleted, and the avatars it made are
    added again. Methods are for the event loop, but for the constructor, which raises InputNotFound, InvalidArgument or
    OutputError.

    Attributes: ``prepare`` (what makes an avatar of an upload: ``preparation.prepare``), ``limits``, ``new`` (the
    avatars that this process made or makes, by name), ``kept`` (the bytes of the avatars on the disk, by name),
    ``broken`` (why avatars on the disk cannot be used, by name).
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        workers: Executor,
        face_model: Path | None = None,
        limits: UploadLimits | None = None,
        detail: Detail = "auto",
    ) -> None:
        if face_model is not None and not face_model.is_file():
            raise InputNotFound(f"{face_model}: no such face detector")
        self.prepare = prepare
        self.limits = limits or UploadLimits()
        self.new: dict[str, NewAvatar] = {}
        self.broken: dict[str, str] = {}
        self.kept: dict[str, int] = {}
        self._folder, self._catalog, self._workers = folder.absolute(), catalog, workers
        self._bundle = next(iter(catalog.bundles.values()))
        self._face_model = face_model or self._bundle.face_model
        self._detail = detail
        self._preparing = asyncio.Semaphore(1)
        self._count = 0
        try:
            self._lock = lock_folder(self._folder / WORK, f"{folder}: used")
            self._load()
        except OSError as error:
            if isinstance(error, MuseTalkEdgeError):
                raise
            raise OutputError(f"{folder}: cannot be used for avatars: {error.strerror}") from None

    @property
    def finds_faces(self) -> bool:
        """Whether it finds faces by itself."""
        return self._face_model is not None

    def begin(self, name: str, box: Box | None) -> NewAvatar:
        """Reserve `name` for an upload, which `receive` takes; raises ServiceError."""
        found = self.new.get(name)
        if name in self._catalog.avatars or name in self.broken or (found and found.state != "failed"):
            raise ServiceError(409, "exists", f"there is an avatar {name!r} already: choose another name, or delete it")
        if box is None and not self.finds_faces:
            raise ServiceError(422, "no_detector", "this service has no face detector: give the face's box, face_box")
        failed = [name for name, new in self.new.items() if new.state == "failed"]
        for old in failed[: max(0, len(failed) - self.limits.avatars + 1)]:
            del self.new[old]
        held = {*self.kept, *self.new, *self.broken}.difference(failed)
        if self._used >= self.limits.total_bytes or len(held) >= self.limits.avatars:
            raise ServiceError(507, "no_storage", "there is no room for another avatar: delete one first")
        self._count += 1
        new = NewAvatar(name, box, self._folder / WORK / str(self._count))
        self.new[name] = new
        return new

    async def receive(self, new: NewAvatar, chunks: AsyncIterator[bytes]) -> None:
        """Write the upload to disk, and begin to prepare it; raises ServiceError or OSError, and has forgotten it then.

        When this is cancelled it is forgotten too.
        """
        writing = new.task = asyncio.ensure_future(self._write(new, chunks))
        try:
            await asyncio.wait_for(writing, self.limits.upload_seconds)
        except BaseException as error:
            forgotten = self.new.get(new.name) is not new
            if not forgotten:
                del self.new[new.name]
            await self._run(_remove, new.folder)
            if isinstance(error, asyncio.CancelledError) and forgotten:
                raise ServiceError(409, "cancelled", "the avatar was deleted while it was sent") from None
            if isinstance(error, asyncio.TimeoutError):
                took = f"the upload took more than {self.limits.upload_seconds:g} s"
                raise ServiceError(408, "too_slow", took) from None
            raise
        new.move("waiting")
        new.task = asyncio.create_task(self._make(new))

    async def adopt(self, name: str) -> None:
        """Serve the avatar that was put at ``FOLDER/name``; raises ServiceError, InvalidFolder or AvatarMismatch."""
        if name in self._catalog.avatars or name in self.new or name in self.broken:
            raise ServiceError(409, "exists", f"there is an avatar {name!r} already")
        path = self._folder / name
        if path.is_symlink() or not path.is_dir():
            raise ServiceError(404, "unknown_avatar", f"no avatar {name!r} was put there")
        self._catalog.add(name, await self._run(self._open, path))
        self.kept[name] = await self._run(_size, path)

    async def delete(self, name: str, in_use: Collection[str]) -> None:
        """Delete an avatar, unless it is one of those `in_use`, or end its making; raises ServiceError."""
        if name in self._catalog.avatars and name not in self.kept:
            raise ServiceError(403, "fixed", f"avatar {name!r} is the operator's")
        if name in in_use:
            raise ServiceError(409, "in_use", f"a session uses avatar {name!r}: end it first")
        new, made = self.new.pop(name, None), name in self.kept or name in self.broken
        if not new and not made:
            raise ServiceError(404, "unknown_avatar", f"no avatar {name!r}")
        self.broken.pop(name, None)
        if self.kept.pop(name, None) is not None:
            self._catalog.remove(name)
        if new and new.task and not new.task.done():
            new.task.cancel()
            with suppress(asyncio.CancelledError, MuseTalkEdgeError):
                await new.task
        if made:
            await self._run(_remove, self._folder / name)

    def release_idle(self, in_use: Collection[str]) -> None:
        """Free the memory held for the avatars that are not `in_use`."""
        for name in self.kept.keys() - set(in_use):
            self._catalog.avatars[name].rest()

    async def close(self) -> None:
        """End what is being made, and unlock the folder."""
        tasks = [new.task for new in self.new.values() if new.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lock.close()

    @property
    def _used(self) -> int:
        return sum(self.kept.values()) + sum(new.size for new in self.new.values())

    def _load(self) -> None:
        for left in (self._folder / WORK).iterdir():
            if left.name != "lock":
                _remove(left)
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(".") or path.is_symlink() or not path.is_dir():  # not whole yet
                continue
            if path.name in self._catalog.avatars:
                raise InvalidArgument(f"{path}: there is an avatar of that name already: rename one of them")
            try:
                self._catalog.add(path.name, self._open(path))
                self.kept[path.name] = _size(path)
            except MuseTalkEdgeError as error:
                log.warning("%s", error)
                self.broken[path.name] = str(error).replace(f"{path}: ", "")

    async def _write(self, new: NewAvatar, chunks: AsyncIterator[bytes]) -> None:
        def count_chunk(count: int) -> None:
            new.size += count
            if new.size > self.limits.upload_bytes:
                raise ServiceError(413, "too_large", f"an upload has at most {self.limits.upload_bytes >> 20} MiB")
            if self._used > self.limits.total_bytes:
                raise ServiceError(507, "no_storage", "there is no room for this avatar: delete others first")

        await write_upload(new.upload, chunks, self._workers, count_chunk)
        if not new.size:
            raise ServiceError(422, "bad_media", "the upload is empty: send a photo or a video")

    async def _make(self, new: NewAvatar) -> None:
        reason: str | None = None
        try:
            async with self._preparing:
                new.move("preparing")
                new.warnings = await self.prepare(self._request(new), self.limits.prepare_seconds, new.report)
            avatar = await self._adopt(new)
            self._catalog.add(new.name, avatar)
            self.kept[new.name] = new.size
        except Exception as error:
            reason = _reason(error)
        finally:
            await asyncio.shield(self._run(_remove, new.folder))
            new.size = 0
        new.move("failed" if reason else "ready", reason)

    def _request(self, new: NewAvatar) -> Request:
        return Request(
            source=str(new.upload),
            bundle=str(self._bundle.path.absolute()),
            output=str(new.pack),
            face_model=str(self._face_model.absolute()) if self._face_model else None,
            face_box=new.box,
            max_seconds=self.limits.video_seconds,
            max_side=self.limits.max_side,
            memory=self.limits.prepare_memory,
            seconds=self.limits.prepare_seconds,
            file_bytes=max(1, self.limits.total_bytes - self._used),
        )

    async def _adopt(self, new: NewAvatar) -> Avatar:
        adopting = asyncio.ensure_future(self._run(self._move_in, new))
        try:
            return await asyncio.shield(adopting)
        except asyncio.CancelledError:  # it was deleted just now, which a thread does not notice
            with suppress(MuseTalkEdgeError, OSError):
                (await adopting).close()
                await self._run(_remove, self._folder / new.name)
            raise

    def _move_in(self, new: NewAvatar) -> Avatar:
        """Move the avatar that was made into its place, and open it; in a thread."""
        size = _size(new.pack)
        if self._used - new.size + size > self.limits.total_bytes:
            raise ServiceError(507, "no_storage", "there is no room for this avatar: delete others first")
        path = self._folder / new.name
        new.pack.rename(path)  # what is in it is on the disk already
        sync(self._folder)
        try:
            avatar = self._open(path)
        except BaseException:
            _remove(path)
            raise
        new.size = size
        return avatar

    def _open(self, path: Path) -> Avatar:
        return Avatar.open(path, self._detail)

    async def _run(self, do: Callable[..., T], *arguments: object) -> T:
        """Call, in a thread, a function that waits for the disk."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, do, *arguments)


def _reason(error: Exception) -> str:
    """Why an avatar could not be made, for people."""
    if isinstance(error, OSError) and not isinstance(error, MuseTalkEdgeError):
        return f"the avatar cannot be written: {error.strerror}"
    if isinstance(error, MuseTalkEdgeError):
        return one_line(error)
    log.error("an avatar could not be made", exc_info=error)
    return "a bug: the service's log has more"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)

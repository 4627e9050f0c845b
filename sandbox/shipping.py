"""How a task's files and folders reach the nodes of a cluster: read once, and copied once per node."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from kvolve import KvolveError, cache_folder
from sandbox.task import TaskRef

PIECE_BYTES = 64 << 20  # neither side holds more of a large file in memory


@dataclass(frozen=True)
class Parcel:
    """The content of one file or folder, on its way."""

    path: str  # absolute, on the driver's machine
    name: str  # of a file; "" for a folder
    hash: str  # of the content
    files: Mapping[str, list[Any]]  # path within the folder -> what `put` returned for each piece, in order


def wrap(path: str, put: Callable[[bytes], Any]) -> Parcel:
    """The parcel of a file or folder, whose pieces are handed to `put` as plain bytes.

    Raises KvolveError for a path that does not exist, or that holds a link to a folder.
    """
    root = Path(path)
    if not root.exists():
        raise KvolveError(f"{path} does not exist, so it cannot be sent to the nodes of the cluster.")
    digest = hashlib.sha256()
    files: dict[str, list[Any]] = {}
    for file in [root] if root.is_file() else _files(root):
        name = root.name if root.is_file() else file.relative_to(root).as_posix()
        content = hashlib.sha256()
        files[name] = []
        with file.open("rb") as opened:
            while piece := opened.read(PIECE_BYTES):
                content.update(piece)
                files[name].append(put(piece))
        digest.update(name.encode() + b"\0" + content.digest())
    return Parcel(path, root.name if root.is_file() else "", digest.hexdigest(), files)


def settle(parcel: Parcel, get: Callable[[Any], bytes]) -> str:
    """Where this machine has the parcel's content: its own path if that is the same here, else a copy.

    The copy lies in the cache folder under the content's hash. The first worker of a machine makes it, from
    what `get` returns for each piece; the others wait for it.
    """
    if _is_here(parcel):
        return parcel.path
    shipped = cache_folder() / "shipped"
    shipped.mkdir(exist_ok=True)
    copy = shipped / parcel.hash
    with (shipped / f"{parcel.hash}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            partial = shipped / f"{parcel.hash}.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a worker that was killed
            _unwrap(parcel, partial, get)
            partial.rename(copy)
    return str(copy / parcel.name)


def moved(task: TaskRef, places: Mapping[str, str]) -> TaskRef:
    """The task with each path of `places` replaced in its arguments."""
    arguments = {name: places.get(value, value) for name, value in task.arguments.items()}
    return replace(task, arguments=arguments, data=tuple(places.get(path, path) for path in task.data))


def _files(root: Path) -> Iterator[Path]:
    """All files below `root`, in the order of their names; links to files count as files."""
    for folder, folders, names in os.walk(root):
        folders.sort()
        if linked := next((name for name in folders if os.path.islink(os.path.join(folder, name))), None):
            raise KvolveError(
                f"{folder}/{linked} is a link to a folder, which cannot be sent to the nodes of a cluster. "
                "Put the folder itself there."
            )
        yield from (Path(folder, name) for name in sorted(names))


def _is_here(parcel: Parcel) -> bool:
    try:
        return wrap(parcel.path, lambda _: None).hash == parcel.hash
    except (KvolveError, OSError):
        return False


def _unwrap(parcel: Parcel, folder: Path, get: Callable[[Any], bytes]) -> None:
    """Writes a parcel's files. Raises ValueError for a path that leads out of the folder."""
    folder.mkdir()
    for name, pieces in parcel.files.items():
        inner = PurePosixPath(name)
        if inner.is_absolute() or ".." in inner.parts or not inner.parts:
            raise ValueError(f"a parcel with the path {name!r}, which leads out of its folder")
        target = folder / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for piece in pieces:
                file.write(get(piece))

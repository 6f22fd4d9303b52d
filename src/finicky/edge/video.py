"""Frames of a video or a camera as photos; needs the extra ``video``."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finicky.edge.sources import Source
from finicky.errors import DataError, MissingDependencyError, UsageError
from finicky.files import atomic_path, read_json, unwritable, write_json
from finicky.images import MAX_PIXELS, printable
from finicky.progress import Progress, silent

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts"}
)
FRAMES = "frames"
# Beside the frames: of which file they are.
_TAKEN_FROM = "video.json"
# Names that FFmpeg gives to these containers.
_FORMATS = "mov,mp4,avi,matroska,webm,mpeg,mpegts"
_CAMERA = re.compile(r"camera:(.+)")
_QUALITY = 95
# A camera never ends.
_CAMERA_FRAMES = 100
_OPEN_S, _READ_S = 10.0, 10.0


@dataclass(frozen=True)
class FrameSettings:
    """Which frames of a video are looked at.

    Attributes:
        every: Each so many-th, from the first on.
        most: At most so many of each video; ``None``: all, of a camera 100.
    """

    every: int = 30
    most: int | None = None

    def check(self) -> None:
        """Refuse what is out of range with a `UsageError`."""
        if self.every < 1 or (self.most is not None and self.most < 1):
            raise UsageError(
                f"every and frames must be at least 1, got {self.every} and {self.most}"
            )


def is_video(given: str | Path) -> bool:
    """Whether this is a video file by its name, or ``camera:0``."""
    return is_camera(given) or Path(given).suffix.lower() in VIDEO_SUFFIXES


def is_camera(given: str | Path) -> bool:
    """Whether this is ``camera:0`` or the like."""
    return bool(_CAMERA.fullmatch(str(given)))


def check_videos(videos: Sequence[str | Path], *, resume: bool) -> None:
    """Refuse what cannot be begun, before anything is written.

    Raises:
        UsageError: A file is not there, two have the same name, or a camera is to be gone on with.
        MissingDependencyError: The extra is not installed.
    """
    if videos:
        _av()
    names: dict[str, str] = {}
    for given in map(str, videos):
        if is_camera(given) and resume:
            raise UsageError(
                "a camera cannot be gone on with: it shows something else by now. Leave --resume "
                "out and choose another --out folder"
            )
        if not is_camera(given) and not Path(given).is_file():
            raise UsageError(f"{printable(Path(given))} is not there: give a video")
        name = _name(given)
        if names.setdefault(name, given) != given:
            raise UsageError(f"two videos are called {name!r}: give them one after the other")


def frames_of(
    videos: Sequence[str | Path],
    folder: Path,
    settings: FrameSettings,
    *,
    max_pixels: int = MAX_PIXELS,
    progress: Progress = silent,
) -> list[Source]:
    """Write the frames of videos as JPEG below ``folder``.

    Those that are there are kept, as long as the file is the one that they were taken from.
    A video that cannot be read, or breaks off, is one source with the reason; the frames before
    that count.

    Args:
        videos: Files, or cameras as ``camera:0``; as `check_videos` lets them pass.
        folder: Frames come to lie in a folder for each video.
        settings: Which.
        max_pixels: Largest frame that is taken.
        progress: Told of each frame; how many there will be is not known before.

    Raises:
        DataError: A frame cannot be written.
    """
    settings.check()
    found: list[Source] = []
    for given in videos:
        name = _name(str(given))
        place = folder / name
        if not is_camera(given):
            _forget_others(place, Path(given))
        try:
            for number, image in _pictures(str(given), settings, max_pixels):
                path = place / f"{number:08}.jpg"
                if not path.is_file():
                    with atomic_path(path) as temporary:
                        image.save(temporary, format="JPEG", quality=_QUALITY)
                found.append(Source(path, f"{name}/{path.name}"))
                progress("taking frames", len(found), len(found))
        except _Broken as error:
            why = f"a video that cannot be read: {error}"
            found.append(Source(Path(given), name, why, failed=True))
    return found


def _forget_others(place: Path, video: Path) -> None:
    """Frames of an earlier file of this name must not pass for frames of this one."""
    info = video.stat()
    stamp = {"bytes": info.st_size, "mtime_ns": info.st_mtime_ns}
    try:
        if read_json(place / _TAKEN_FROM) == stamp:
            return
    except DataError:  # there is none yet
        pass
    try:
        if place.is_dir():
            shutil.rmtree(place)
    except OSError as error:
        raise unwritable(place, error) from error
    write_json(place / _TAKEN_FROM, stamp)


class _Broken(Exception):
    """What is wrong with a video."""


def _pictures(given: str, settings: FrameSettings, max_pixels: int) -> Iterator[tuple[int, Any]]:
    av = _av()
    camera = _CAMERA.fullmatch(given)
    most = settings.most or (_CAMERA_FRAMES if camera else None)
    taken = 0
    try:
        with _opened(av, given, camera[1] if camera else None) as container:
            if not container.streams.video:
                raise _Broken("it holds no pictures")
            stream = container.streams.video[0]
            _refuse_large(stream.width, stream.height, max_pixels)
            for number, frame in enumerate(container.decode(stream)):
                _refuse_large(frame.width, frame.height, max_pixels)  # it may grow on its way
                if number % settings.every == 0:
                    yield number, frame.to_image()
                    taken += 1
                    if most is not None and taken == most:
                        return
    except (av.error.FFmpegError, ValueError, OSError, EOFError) as error:
        raise _Broken(" ".join(str(error).split())[:160] or type(error).__name__) from error
    if not taken:
        raise _Broken("it holds no pictures")


def _refuse_large(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise _Broken(f"it is {width}x{height}, more than {max_pixels} px")


def _opened(av: Any, given: str, camera: str | None) -> Any:
    timeout = (_OPEN_S, _READ_S)
    if camera is None:
        # The file itself and nothing that it names: playlists could name other files and hosts.
        options = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
        return av.open(given, timeout=timeout, options=options)
    if sys.platform == "win32":
        return av.open(f"video={camera}", format="dshow", timeout=timeout)
    if sys.platform == "darwin":
        return av.open(camera, format="avfoundation", timeout=timeout)
    device = f"/dev/video{camera}" if camera.isdecimal() else camera
    return av.open(device, format="v4l2", timeout=timeout)


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "videos and cameras need av: pip install 'finicky-transfer-learning[video]'"
        ) from error
    return av


def _name(given: str) -> str:
    camera = _CAMERA.fullmatch(given)
    if camera is None:
        return Path(given).name
    return "camera-" + re.sub(r"[^\w-]", "_", camera[1])

"""Small and large objects that workers on several machines share, by fsspec: S3, GCS, Azure, memory.

Object stores answer slowly, fail now and then, and have neither renames nor links. Every call is repeated a few times
with growing pauses. Credentials come from where each service's own tools look for them, never from a URL.
"""

from __future__ import annotations

import errno
import hashlib
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.urls import AZURE, check_url

T = TypeVar("T")
ATTEMPTS, PAUSE_S = 6, 0.2
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
OWN_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE})  # of this machine
NO_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"})
DENIED, ABSENT = (401, 403), (404, 410)  # HTTP statuses
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", **dict.fromkeys(AZURE, "adlfs")}
PACKAGES |= dict.fromkeys(("http", "https"), "aiohttp")
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "generation")  # of an object's content
TIMES = ("LastModified", "last_modified", "mtime", "updated", "created")  # of an object, as services name it


@dataclass(frozen=True)
class ObjectInfo:
    """An object as a service lists it."""

    name: str  # below the URL of the folder
    bytes: int | None  # None where the service does not state it, as in listings over HTTP
    version: str | None  # changes with the content: its ETag, or the time of its last change; None if neither is stated


class SharedFolder:
    """Objects below one URL, by names with `/`."""

    def __init__(self, url: str, attempts: int = ATTEMPTS) -> None:
        self.url, self._attempts = url.rstrip("/"), attempts
        self._files, self._base = _file_system(self.url)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None if there is none."""
        try:
            return bytes(self._call(self._files.cat_file, self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all on object stores."""
        self._put(self._files.pipe_file, self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; where the service cannot do this in one step, two may both succeed."""
        try:
            self._put(self._files.pipe_file, self._path(name), content, mode="create")
        except FileExistsError:
            return self.read(name) == content  # this process's own, if the first answer was lost
        except (NotImplementedError, TypeError):  # no conditional writes
            if self.has(name):
                return False
            self.write(name, content)
        return True

    def has(self, name: str) -> bool:
        """Return whether there is an object."""
        self._forget()
        return bool(self._call(self._files.exists, self._path(name)))

    def names(self, folder: str = "") -> list[str]:
        """Return the names of all objects below a folder, sorted, relative to the URL."""
        return sorted(self.objects(folder))

    def objects(self, folder: str = "") -> dict[str, tuple[int, float | None]]:
        """Return bytes and time of the last change, in seconds since 1970, of all objects below a folder, by name.

        A time that the service does not tell is None.
        """
        return {name: (int(about["size"]), _changed(about)) for name, about in self._find(folder).items()}

    def listing(self) -> list[ObjectInfo]:
        """List all objects below the URL, sorted by name; none where there is no such folder."""
        return [_info(name, about) for name, about in sorted(self._find("").items()) if name]

    def _find(self, folder: str) -> dict[str, Mapping[str, Any]]:
        """Return what the service states of all objects below a folder, by their names below the URL."""
        self._forget()
        try:
            found = self._call(self._files.find, self._path(folder) if folder else self._base, detail=True)
        except FileNotFoundError:
            return {}
        start = len(self._base.rstrip("/")) + 1
        return {str(path)[start:]: about for path, about in found.items()}

    def info(self, name: str) -> ObjectInfo | None:
        """Look an object up; None if there is none, or if it is a folder."""
        self._forget()
        try:
            about = self._call(self._files.info, self._path(name))
        except FileNotFoundError:
            return None
        return None if about.get("type") == "directory" else _info(name, about)

    def open(self, name: str) -> BinaryIO:
        """Open an object to read it in blocks."""
        opened: BinaryIO = self._call(self._files.open, self._path(name), "rb")
        return opened

    def digest(self, name: str) -> tuple[int, str] | None:
        """Return bytes and SHA-256 of an object, read in blocks; None if there is none."""

        def read() -> tuple[int, str]:
            size, sha256 = 0, hashlib.sha256()
            with self._files.open(self._path(name), "rb") as file:
                while block := file.read(1 << 22):
                    size += len(block)
                    sha256.update(block)
            return size, sha256.hexdigest()

        try:
            return self._call(read)
        except FileNotFoundError:
            return None

    def upload(self, source: Path, name: str) -> None:
        """Write a file as an object, large ones in several parts."""
        self._put(self._files.put_file, str(source), self._path(name))

    def download(self, name: str, target: Path) -> bool:
        """Read an object into a file; False if there is none."""
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._call(self._files.get_file, self._path(name), str(target))
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Delete an object, if there is one."""
        try:
            self._call(self._files.rm_file, self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"

    def _forget(self) -> None:
        self._files.invalidate_cache()

    def _put(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Write; an object store says that there is no file where the bucket is missing."""
        try:
            return self._call(call, *arguments, **options)
        except FileNotFoundError as error:
            if error.filename and Path(str(error.filename)).is_absolute():  # a local file
                raise
            raise CompressError(f"{self.url} does not exist; create its bucket or container") from error

    def _call(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        for attempt in range(1, self._attempts + 1):
            try:
                return call(*arguments, **options)
            except Exception as error:
                status = _status(error)
                if status in DENIED:
                    reason = f"access denied ({_reason(error)})"
                    raise CompressError(f"{self.url}: {reason}; check the credentials in the environment") from error
                if status in ABSENT and not isinstance(error, FileNotFoundError):
                    raise FileNotFoundError(errno.ENOENT, _reason(error)) from error
                if isinstance(error, (*FINAL, NotImplementedError, TypeError, MemoryError)):
                    raise
                if isinstance(error, OSError) and error.errno in OWN_FAULTS:
                    raise
                if type(error).__name__ in NO_CREDENTIALS:
                    raise CompressError(f"{self.url}: no credentials found; set them in the environment") from error
                if attempt == self._attempts:
                    reason = f"{type(error).__name__}: {_reason(error)}"
                    raise CompressError(f"{self.url}: no answer after {attempt} attempts ({reason})") from error
            time.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error stands for, as s3fs, gcsfs or adlfs raise it; None if it has none."""
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and str(error).startswith("Forbidden")):
        return 403  # s3fs; gcsfs
    stated = (getattr(error, name, None) for name in ("status_code", "code", "status"))  # adlfs; gcsfs; aiohttp
    return next((int(str(each)) for each in stated if str(each).isdecimal()), None)


def _reason(error: Exception) -> str:
    """Return the first line of an error, without the queries of URLs in it, where tokens and signatures are."""
    return re.sub(r"\?[^\s'\")>]+", "?...", first_line(error))


def _info(name: str, about: Mapping[str, Any]) -> ObjectInfo:
    size = about.get("size")
    stated = next((str(about[field]).strip('"') for field in VERSIONS if about.get(field)), None)
    version = stated or about.get("Last-Modified") or _changed(about)
    return ObjectInfo(name, None if size is None else int(size), None if version is None else str(version))


def _changed(about: Mapping[str, Any]) -> float | None:
    found = next((about[name] for name in TIMES if about.get(name)), None)
    if found is None:
        return None
    found = datetime.fromisoformat(found) if isinstance(found, str) else found
    return found.timestamp() if isinstance(found, datetime) else float(found)


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    check_url(url)
    scheme = url.partition("://")[0].lower()
    try:
        files, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(scheme, "its fsspec package")
        raise UsageError(f"{url}: needs {package}; pip install {package}") from error
    except ValueError as error:
        if scheme in PACKAGES:
            raise CompressError(
                f"{url}: no credentials found ({_reason(error)}); set them in the environment"
            ) from error
        raise UsageError(f"{url}: {first_line(error)}; use s3://, gs://, az:// or a local folder") from error
    except Exception as error:
        raise CompressError(f"{url}: cannot be opened ({_reason(error)})") from error
    return files, str(base)

"""Small and large objects that workers on several machines share, by fsspec: a folder, S3, GCS, Azure, memory.

Object stores answer slowly, fail now and then, and have neither renames nor links. Every call is repeated a few times
with growing pauses. Credentials come from where each service's own tools look for them, never from a URL.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compress.utils.errors import CompressError, UsageError, first_line

T = TypeVar("T")
ATTEMPTS, PAUSE_S = 6, 0.2
FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)


def is_url(text: str) -> bool:
    """Return whether a text names something behind a protocol rather than a local path; `file://` is local too."""
    match = URL.fullmatch(text)
    return match is not None and match[1] != "file"


def check_url(url: str) -> None:
    """Refuse URLs with credentials, which would end in logs and results.

    Raises:
        UsageError: it has a user, a password or a query.
    """
    match = URL.fullmatch(url)
    rest = match[2] if match else ""
    if "@" in rest.split("/")[0] or "?" in rest or "#" in rest:
        shown = f"{match[1]}://..." if match else "the URL"
        raise UsageError(f"{shown}: credentials do not belong in a URL; put them where the service's own tools look")
    if not rest.strip("/"):
        raise UsageError(f"{url}: names no folder; add one, as in s3://bucket/runs")


class SharedFolder:
    """Objects below one URL, by names with `/`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._files, self._base = _file_system(self.url)

    def read(self, name: str) -> bytes | None:
        """Return the content of an object, or None if there is none."""
        try:
            return bytes(self._call(self._files.cat_file, self._path(name)))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object, whole or not at all on object stores."""
        self._make_parent(name)
        self._call(self._files.pipe_file, self._path(name), content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object unless there is one; where the service cannot do this in one step, two may both succeed."""
        self._make_parent(name)
        try:
            self._call(self._files.pipe_file, self._path(name), content, mode="create")
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
        self._forget()
        try:
            found = self._call(self._files.find, self._path(folder) if folder else self._base)
        except FileNotFoundError:
            return []
        start = len(self._base.rstrip("/")) + 1
        return sorted(str(path)[start:] for path in found)

    def sizes(self, folder: str) -> dict[str, tuple[int, float]]:
        """Return bytes and time of the last change, in seconds since 1970, of all objects below a folder."""
        found = {}
        for name in self.names(folder):
            about = self._call(self._files.info, self._path(name))
            changed = about.get("LastModified") or about.get("updated") or about.get("mtime") or about.get("created")
            stamp = changed.timestamp() if hasattr(changed, "timestamp") else float(changed or 0)
            found[name] = (int(about["size"]), stamp)
        return found

    def upload(self, source: Path, name: str) -> None:
        """Write a file as an object, large ones in several parts."""
        self._make_parent(name)
        self._call(self._files.put_file, str(source), self._path(name))

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

    def _make_parent(self, name: str) -> None:
        if "file" in _protocols(self._files):  # object stores have no folders
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)

    def _forget(self) -> None:
        self._files.invalidate_cache()

    def _call(self, call: Callable[..., T], *arguments: Any, **options: Any) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call(*arguments, **options)
            except (*FINAL, NotImplementedError, TypeError) as error:
                if isinstance(error, PermissionError):
                    reason = f"access denied ({first_line(error)})"
                    raise CompressError(f"{self.url}: {reason}; check the credentials in the environment") from error
                raise
            except Exception as error:
                if attempt == ATTEMPTS:
                    reason = f"{type(error).__name__}: {first_line(error)}"
                    raise CompressError(f"{self.url}: no answer after {ATTEMPTS} attempts ({reason})") from error
            time.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    check_url(url)
    scheme = url.partition("://")[0]
    try:
        files, base = fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        package = PACKAGES.get(scheme, "its fsspec package")
        raise UsageError(f"{url}: needs {package}; pip install {package}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {first_line(error)}; use s3://, gs://, az:// or a local folder") from error
    except Exception as error:
        raise CompressError(f"{url}: cannot be opened ({first_line(error)})") from error
    return files, str(base)


def _protocols(files: Any) -> tuple[str, ...]:
    protocol = files.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)

"""Downloads from the model hub where it cannot be reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from compress.utils.system import hub_is_reachable
from compress.utils.user_cache import say_where_downloads_go

PATIENCE_S = 10.0  # for one answer; a proxy may be slow


@contextmanager
def fail_fast(downloads: bool = True) -> Iterator[None]:
    """Read from the local cache only where the hub does not answer: its client tries for a minute, with many lines.

    Args:
        downloads: Whether the block downloads at all; otherwise nothing is asked.

    Raises:
        OSError: something is neither in the cache nor can be downloaded.
    """
    from huggingface_hub import constants

    if downloads:
        say_where_downloads_go("HF_HOME")
    if not downloads or constants.HF_HUB_OFFLINE or hub_is_reachable(PATIENCE_S):
        yield
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    except Exception as error:
        if _is_missing(error):
            address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
            where = f"{address} cannot be reached{_through_proxy(address)}"
            raise OSError(f"{where}, and its files are not in the local cache") from error
        raise
    finally:
        constants.HF_HUB_OFFLINE = False


def _is_missing(error: BaseException | None) -> bool:
    """Return whether an error, or one that led to it, is the client's for a file that its cache lacks."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        error = error.__cause__ or error.__context__
    return False


def _through_proxy(address: str) -> str:
    """Name the proxy that the environment sets for an address, without user and password; empty if there is none."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    wanted = urlsplit(address)
    proxy = getproxies().get(wanted.scheme)
    if not proxy or proxy_bypass(wanted.netloc):
        return ""
    return f" through the proxy {urlsplit(proxy).netloc.rpartition('@')[2] or 'of the environment'}"

"""What a process that makes stages sets before anything else."""

from __future__ import annotations

from compress.utils.platform import require_supported_system
from compress.utils.system import allow_open_files, limit_threads
from compress.utils.user_cache import give_caches_a_place


def set_up_process() -> None:
    """Set limits and folders of a process that makes stages; Windows itself is a `UsageError`."""
    require_supported_system()
    limit_threads()
    allow_open_files()
    give_caches_a_place()

"""Work on a sweep, and write its page whatever ends it."""

from __future__ import annotations

from contextlib import suppress

from compress.sweep.job import Job
from compress.sweep.page import write_sweep
from compress.sweep.records import Sweep
from compress.sweep.summary import summarize
from compress.sweep.worker import work
from compress.utils.errors import CompressError

INTERRUPTED = "interrupted; the same command resumes"


def run_sweep(job: Job, *, retry_failed: bool = False) -> Sweep:
    """Make trials until a limit is reached, write the page, and return the record.

    Args:
        job: The sweep.
        retry_failed: Make trials that failed again, with the same settings.

    Raises:
        CompressError: three trials in a row failed for the same reason; the page is written before.
        UsageError: the folder holds a sweep over another recipe or space.
    """
    job.folder.open(job.about())
    if retry_failed:
        job.folder.forget_failures()
    try:
        ended = work(job)
    except BaseException as error:
        with suppress(CompressError, OSError):  # the error itself is raised
            write_sweep(summarize(job, str(error) or INTERRUPTED, interrupted=True), job.folder)
        raise
    found = summarize(job, ended)
    write_sweep(found, job.folder)
    return found

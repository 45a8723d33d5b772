"""Read the `results.json` of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from compress.results.run import SCHEMA_VERSION, RunRecord, Version
from compress.utils.checksums import RUN_AGAIN
from compress.utils.errors import UsageError
from compress.utils.messages import join_words

RESULTS = "results.json"


def read_run(folder: Path) -> RunRecord:
    """Read the results of a run.

    Raises:
        UsageError: the folder is not that of a finished run, or `results.json` is damaged or of another version.
    """
    try:
        return read_results(folder / RESULTS)
    except FileNotFoundError as error:
        if (folder / "log.jsonl").is_file():
            raise UsageError(f"{folder} is a run that did not finish: it has no {RESULTS}; {RUN_AGAIN}") from error
        raise UsageError(f"{folder} is not a run: it has no {RESULTS}") from error
    except NotADirectoryError as error:
        raise UsageError(f"{folder} is a file; name the folder of the run") from error
    except OSError as error:
        raise UsageError(f"{folder} is not a run: {folder / RESULTS} cannot be read ({error.strerror})") from error


def read_results(path: Path) -> RunRecord:
    """Read a file of results, whatever its name.

    Raises:
        OSError: it cannot be read.
        UsageError: it is damaged or of another version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}; {RUN_AGAIN}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version not in get_args(Version):
        remedy = "upgrade compress-model" if version > SCHEMA_VERSION else RUN_AGAIN
        able = join_words(map(str, get_args(Version)), "and")
        raise UsageError(f"{path} has schema_version {version}, and this version reads {able}; {remedy}")
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path} does not hold the results of a run: {_first(error)}; {RUN_AGAIN}") from error


def _first(error: ValidationError) -> str:
    """Describe the first of the errors in one line: where it is, and what is wrong."""
    first, *others = error.errors(include_url=False, include_input=False)
    where = ".".join(map(str, first["loc"])) or "the whole"
    more = f" (and {len(others)} more)" if others else ""
    return f"{where}: {first['msg']}{more}"

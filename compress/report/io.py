"""Reading the `results.json` of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.utils.checksums import RUN_AGAIN
from compress.utils.errors import UsageError


def read_results(folder: Path) -> Any:
    """What the `results.json` of a run holds, whatever that is.

    Raises:
        UsageError: the folder is no run, or the file no JSON.
    """
    path = folder / "results.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if (folder / "log.jsonl").is_file():
            raise UsageError(f"{folder} is a run that did not end: it has no results.json; {RUN_AGAIN}") from error
        raise UsageError(f"{folder} is no run: it has no results.json") from error
    except OSError as error:
        raise UsageError(f"{folder} is no run: {path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no JSON: {error}") from error

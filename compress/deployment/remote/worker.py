"""Do what was sent here: `python -m compress.deployment.remote.worker` in the folder with `request.json`.

It writes `answer.json`: the result, or `error`, with `usage` where the call was wrong. A `bench` request has groups of
files and settings, and its result is `measured`; a `probe` request has names of runtimes, and its result is what is
`missing`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.deployment.bench_measure import BenchSettings, measure_files
from compress.deployment.runtimes import require_engine
from compress.utils.errors import CompressError, UsageError, first_line

REQUEST, ANSWER = "request.json", "answer.json"


def main() -> None:
    """Answer the request of the current folder."""
    request = json.loads(Path(REQUEST).read_text(encoding="utf-8"))
    Path(ANSWER).write_text(json.dumps(_answer(request)), encoding="utf-8")


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "probe" in request:
            return {"missing": _missing(request["probe"])}
        groups = [[Path(file) for file in group] for group in request["groups"]]
        return {"measured": measure_files(groups, BenchSettings(**request["settings"]))}
    except CompressError as error:
        return {"error": str(error), "usage": isinstance(error, UsageError)}
    except MemoryError:
        return {"error": "not enough memory; lower the batch size"}
    except Exception as error:  # whatever a runtime raises
        return {"error": f"{type(error).__name__}: {first_line(error)}"}


def _missing(runtimes: list[str]) -> dict[str, str]:
    """Return why runtimes cannot be used here, by name."""
    missing = {}
    for name in runtimes:
        try:
            require_engine(name)
        except CompressError as error:
            missing[name] = str(error)
    return missing


if __name__ == "__main__":
    main()

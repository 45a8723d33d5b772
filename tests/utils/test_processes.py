"""Scripts that workers import, and systems that are refused."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from support import Job, environment

from compress.pipeline.runner import run
from compress.recipe.load import load_recipe
from compress.utils.errors import UsageError
from compress.utils.platform import require_supported_system
from compress.utils.processes import require_main_guard

REFUSED = "Windows itself is not supported; use WSL 2, a Linux container, or another machine"
UNGUARDED = "import compress\ncompress.run('quickstart')\n"
GUARDED = "import compress\nif __name__ == '__main__':\n    compress.run('quickstart')\n"


def as_main(monkeypatch: pytest.MonkeyPatch, file: Path | None, spec: object = None) -> None:
    main_module = ModuleType("__main__")
    main_module.__spec__ = spec  # type: ignore[assignment]
    if file:
        main_module.__file__ = str(file)
    monkeypatch.setitem(sys.modules, "__main__", main_module)


@pytest.mark.parametrize(
    ("method", "text", "spec", "refused"),
    [
        ("spawn", UNGUARDED, None, True),
        ("forkserver", UNGUARDED, None, True),
        ("spawn", GUARDED, None, False),
        ("fork", UNGUARDED, None, False),
        ("spawn", UNGUARDED, SimpleNamespace(), False),  # python -m
        ("spawn", None, None, False),  # a notebook
    ],
)
def test_a_script_without_a_guard_is_refused_where_workers_import_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, method: str, text: str | None, spec: object, refused: bool
) -> None:
    script = tmp_path / "my script é.py"
    if text:
        script.write_text(text)
    as_main(monkeypatch, script if text else None, spec)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    if refused:
        with pytest.raises(UsageError, match=r"my script é.py: workers import this script .* put `if __name__ == "):
            require_main_guard()
    else:
        require_main_guard()


def test_a_worker_that_reaches_the_run_ends_with_one_line(tmp_path: Path) -> None:
    """Spawned by other code of the script: a worker imports it, and the call in it is not repeated."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, os\n"
        "if __name__ == '__main__':\n"
        "    worker = multiprocessing.get_context('spawn').Process(target=os.getpid)\n"
        "    worker.start()\n"
        "    worker.join()\n"
        "    print('exit status', worker.exitcode)\n"
        "else:\n"
        "    import compress\n"
        "    compress.run('quickstart')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, env=environment())
    assert done.stdout == "exit status 1\n"
    assert done.stderr.startswith("error: a worker process imported this script and reached the run again; put `if")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_script_without_a_guard_is_refused_before_the_data_is_prepared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_job: Callable[[], Job]
) -> None:
    script, recipe = tmp_path / "script.py", make_job().recipe
    script.write_text(UNGUARDED)
    as_main(monkeypatch, script)
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "spawn")

    def prepares(*_: object) -> None:
        raise KeyError("prepared")

    monkeypatch.setattr("compress.pipeline.job.prepare_data", prepares)
    refused = pytest.raises(UsageError, match=r"script.py: workers import this script")
    for changes, ended in (
        (("data.images=files",), refused),
        (("data.images=files", "data.workers=0"), pytest.raises(KeyError)),
        ((), pytest.raises(KeyError)),
    ):
        with ended:
            run(load_recipe(recipe, changes), tmp_path / "runs")


ON_WINDOWS = """\
import sys
sys.modules.update(dict.fromkeys(("resource", "fcntl", "pwd", "termios")))
sys.platform = "win32"
{}
"""


@pytest.mark.parametrize(
    "code",
    [
        "from compress.__main__ import main; main()",
        "import runpy; runpy.run_module('compress', run_name='__main__')",
    ],
)
def test_windows_is_refused_in_a_line(code: str) -> None:
    require_supported_system()
    command = [sys.executable, "-c", ON_WINDOWS.format(code), "list", "losses"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 2 and done.stderr == f"error: {REFUSED}\n"


@pytest.mark.parametrize("code", ["from compress import run", "import compress; compress.run('quickstart')"])
def test_windows_is_refused_in_scripts(code: str) -> None:
    command = [sys.executable, "-c", ON_WINDOWS.format(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 1 and done.stderr.endswith(f"compress.utils.errors.UsageError: {REFUSED}\n")

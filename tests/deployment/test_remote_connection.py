"""One connection to another machine: what is sent runs there, answers, and leaves nothing behind."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from deployment.fake_machine import Machine, wait_for
from support import environment

from compress.deployment.remote import bootstrap, exchange, worker
from compress.deployment.remote.connection import Limit, ask
from compress.deployment.remote.measure import PROBE, missing_on
from compress.utils.errors import CompressError, UsageError
from compress.utils.hosts import parse_host


def test_an_old_python_and_a_missing_package_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bootstrap.obstacle(["numpy"]) is None
    assert str(bootstrap.obstacle(["no_such_package"])).endswith(": pip install no_such_package")
    monkeypatch.setattr(bootstrap, "LEAST", (9, 0))
    assert str(bootstrap.obstacle([])).endswith("; name one of 9.0 or newer in the address")


def archive(source: str, padding: int = 0) -> io.BytesIO:
    """An archive of a module, with as many zero bytes at its end."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as writer:
        entry = tarfile.TarInfo("work.py")
        entry.size = len(source)
        writer.addfile(entry, io.BytesIO(source.encode()))
    file.write(b"\0" * padding)
    return file


@pytest.mark.parametrize("padding", [0, 512, 30_000])
def test_the_padding_of_an_archive_is_not_the_end_of_the_connection(
    machine: Machine, their_python: Path, padding: int
) -> None:
    file = archive("import time\ntime.sleep(0.3)\nopen('answer.json', 'w').write('{\"slept\": true}')\n", padding)
    size = file.tell()
    file.seek(0)
    address = parse_host(f"ssh://pi{their_python}".replace(" ", "%20"))
    assert ask(address, "work", (), file, size, PROBE) == {"slept": True}


def test_files_of_the_home_folder_there_take_the_place_of_no_module(
    machine: Machine, their_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tempfile.py").write_text("raise ImportError('taken from the home folder')\n")
    monkeypatch.chdir(tmp_path)
    file = archive("open('answer.json', 'w').write('{}')\n")
    size = file.tell()
    file.seek(0)
    assert ask(parse_host(f"ssh://pi{their_python}".replace(" ", "%20")), "work", (), file, size, PROBE) == {}


def test_runtimes_that_are_missing_there_are_named(machine: Machine, their_python: Path) -> None:
    missing = missing_on(
        parse_host(f"ssh://pi{their_python}".replace(" ", "%20")), ["onnxruntime", "openvino", "tensorrt"]
    )
    assert missing.keys() == {"openvino", "tensorrt"}
    assert missing["openvino"] == "the runtime openvino is not installed: pip install openvino"


def test_a_benchmark_that_dies_says_its_last_line(machine: Machine, their_python: Path) -> None:
    address = parse_host(f"ssh://pi{their_python}".replace(" ", "%20"))
    for source, message in (
        ("import sys\nsys.exit('no such thing')\n", "the benchmark exited with 1: no such thing"),
        ("import os\nos.kill(os.getpid(), 9)\n", "the benchmark was killed by signal 9"),
    ):
        file = archive(source)
        size = file.tell()
        file.seek(0)
        assert ask(address, "work", ("numpy",), file, size, PROBE) == {"error": message}
    assert not list(machine.temporary.iterdir())


SLEEPER = """\
import subprocess, sys, tempfile
tempfile.mkdtemp()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("started", "w").write(str(child.pid))
child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interruption_ends_what_runs_there_and_removes_it(
    machine: Machine, their_python: Path, tmp_path: Path, number: signal.Signals
) -> None:
    file = archive(SLEEPER)
    (tmp_path / "bundle").write_bytes(file.getvalue())
    code = (
        "from compress.deployment.remote.connection import ask\n"
        "from compress.deployment.remote.measure import PROBE\n"
        "from compress.utils.hosts import parse_host\n"
        f"file = open({str(tmp_path / 'bundle')!r}, 'rb')\n"
        f"ask(parse_host({f'ssh://pi{their_python}'.replace(' ', '%20')!r}), 'work', (), file, {file.tell()}, PROBE)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], env=environment(), stderr=subprocess.PIPE) as asking:
        wait_for(lambda: any(note.read_text() for note in machine.temporary.glob("*/started")))
        started = int(next(machine.temporary.glob("*/started")).read_text())
        assert is_running(started)
        asking.send_signal(number)
        asking.communicate(timeout=60)
    wait_for(lambda: not list(machine.temporary.iterdir()) and not is_running(started))


@pytest.mark.parametrize("padding", [0, 1 << 20], ids=["receives", "sends"])
@pytest.mark.parametrize("command", ["ssh", "adb"])
def test_a_machine_without_a_sign_of_life_is_given_up(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, command: str, padding: int
) -> None:
    """It is connected and frozen: it neither takes what is sent nor answers."""
    monkeypatch.setattr(exchange, "SILENCE_S", 0.4)
    monkeypatch.setattr(exchange, "CLEANING_S", 0.2)
    machine.install(command, "#!/bin/sh\necho Welcome\nexec sleep 600\n")
    file = archive("", padding)
    size = file.tell()
    file.seek(0)
    address, trial = {"ssh": ("ssh://pi:2222", "ssh -p 2222 pi true"), "adb": ("adb:xyz", "adb -s xyz shell true")}[
        command
    ]
    with pytest.raises(
        CompressError, match=rf"^{address}: no sign of life for 0 s; `{trial}` must answer; if it does, "
    ):
        ask(parse_host(address), "work", (), file, size, PROBE)


def test_what_hangs_there_is_ended_and_removed(
    machine: Machine, their_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deadlocked runtime gives signs of life, but no result."""
    file = archive(SLEEPER)
    size = file.tell()
    file.seek(0)
    address = parse_host(f"ssh://pi{their_python}".replace(" ", "%20"))
    with pytest.raises(
        CompressError, match=r"^ssh://pi.*: no result after 1 s; `ssh pi true` .*, take another runtime$"
    ):
        ask(address, "work", (), file, size, Limit(1.0, "take another runtime"))
    wait_for(lambda: not list(machine.temporary.iterdir()))


def test_a_long_benchmark_gives_signs_of_life(
    machine: Machine, their_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "SILENCE_S", 1.5)
    file = archive("import time\ntime.sleep(2)\nopen('answer.json', 'w').write('{\"slept\": true}')\n")
    size = file.tell()
    file.seek(0)
    address = parse_host(f"ssh://pi{their_python}".replace(" ", "%20"))
    assert ask(address, "work", (), file, size, PROBE) == {"slept": True}


@pytest.mark.parametrize("answer", ["{", "[]", "[" * 100_000])
def test_a_damaged_answer_is_one_line(machine: Machine, answer: str) -> None:
    (machine.folder / "answer").write_text(f"{bootstrap.MARK}{answer}\n")
    machine.install("ssh", "#!/bin/sh\ncat > /dev/null &\ncat '{folder}/answer'\n")
    with pytest.raises(CompressError, match=r"^ssh://pi: the answer is damaged: .*; try again; if it happens again, "):
        missing_on(parse_host("ssh://pi"), ["onnxruntime"])


def test_an_answer_of_something_else_is_one_line(machine: Machine) -> None:
    machine.install("ssh", f"#!/bin/sh\necho '{bootstrap.MARK}{{{{}}}}'\n")
    with pytest.raises(CompressError, match=r"^ssh://pi: the answer is damaged: KeyError: 'missing'; try again"):
        missing_on(parse_host("ssh://pi"), ["onnxruntime"])


def test_a_full_disk_is_one_line(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("compress.deployment.remote.measure.write_bundle", full)
    with pytest.raises(
        CompressError, match=r"^ssh://pi: the artifacts cannot be packed: .*: No space left on device; .*T"
    ):
        missing_on(parse_host("ssh://pi"), ["onnxruntime"])


def test_jump_hosts_do_not_ask_for_passwords(machine: Machine) -> None:
    machine.install("ssh", "#!/bin/sh\necho asked=$SSH_ASKPASS_REQUIRE >&2\nexit 255\n")
    with pytest.raises(CompressError, match="asked=never"):
        missing_on(parse_host("ssh://pi"), ["onnxruntime"])


def is_running(process: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (UsageError("no such runtime"), {"error": "no such runtime", "usage": True}),
        (CompressError("damaged"), {"error": "damaged", "usage": False}),
        (MemoryError(), {"error": "not enough memory; lower the batch size"}),
        (RuntimeError("of the engine\nwith details"), {"error": "RuntimeError: of the engine"}),
    ],
)
def test_what_fails_there_is_an_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, answer: dict[str, object]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker, "measure_files", fail)
    (tmp_path / "request.json").write_text(json.dumps({"groups": [["model.onnx"]], "settings": {}}))
    worker.main()
    assert json.loads((tmp_path / "answer.json").read_text()) == answer

"""Benchmarks on other machines, through programs that stand for `ssh` and `adb`, and through a real sshd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx
import pytest
from deployment.fake_machine import FAKE, Machine, wait_for
from deployment.tiny_classifier import PREPROCESS
from onnx import TensorProto, helper, numpy_helper

from compress.deployment.artifact_files import artifact_files
from compress.deployment.bench import InterleavedRecord, bench
from compress.deployment.remote.bootstrap import MARK
from compress.deployment.remote.bundle import imported, write_bundle
from compress.deployment.runtime import Runtime
from compress.deployment.runtimes import cannot_be_sent, find_runtime
from compress.registry import RUNTIMES, RuntimeEntry
from compress.utils.errors import CompressError, UsageError
from compress.utils.hosts import parse_host
from compress.utils.system import processor


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of one linear layer."""
    folder = tmp_path_factory.mktemp("my run") / "onnx"
    folder.mkdir()
    weight = numpy_helper.from_array(np.ones((3 * 16 * 16, 5), np.float32), "weight")
    nodes = [
        helper.make_node("Flatten", ["images"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["logits"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 16, 16])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "linear", [images], [logits], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "preprocess.json").write_text(json.dumps(PREPROCESS))
    return folder


def quick(paths: list[Path], address: str, runtime: str | None = None, processes: int = 1) -> InterleavedRecord:
    record = bench(paths, runtime, (1, 2), rounds=5, threads=1, processes=processes, on=parse_host(address))
    assert "latency" in record
    return record


def test_a_benchmark_over_ssh_needs_onnx_runtime_and_numpy_there_and_leaves_nothing(
    machine: Machine, artifact: Path, their_python: Path
) -> None:
    for absent in ("PIL", "onnx", "torch", "typer", "pydantic"):
        assert subprocess.run([their_python, "-c", f"import {absent}"], capture_output=True).returncode, absent
    address = f"ssh://me@pi:2222{their_python}".replace(" ", "%20")
    record = quick([artifact, artifact], address, processes=2)
    about = record["environment"]
    assert about["host"] == address and about["processor"] == processor() and about["threads"] == 1
    assert about["packages"].keys() == {"onnxruntime", "numpy"} and all(about["packages"].values())
    assert [row["path"] for row in record["artifacts"]] == [str(artifact / "model.onnx")] * 2
    assert [(row["number"], row["batch"]) for row in record["latency"]] == [(1, 1), (2, 1), (1, 2), (2, 2)]
    assert all(row["p50_ms"] > 0 and len(row["process_p50_ms"]) == 2 for row in record["latency"])
    assert record["latency"][0]["ratio_to_first"] == 1
    options, target = machine.arguments[:-3], machine.arguments[-3:-1]
    assert target == ["--", "me@pi"] and options[-2:] == ["-p", "2222"] and "BatchMode=yes" in options
    assert not list(machine.temporary.iterdir())


def test_a_benchmark_over_adb_in_all_runtimes_that_are_there(
    machine: Machine, artifact: Path, their_python: Path
) -> None:
    record = quick([artifact.parent], f"adb:emulator-5554{their_python}".replace(" ", "%20"), "auto")
    assert [row["runtime"] for row in record["artifacts"]] == ["onnxruntime"]
    assert record["environment"]["host"] and len(record["latency"]) == 2
    assert machine.arguments[:4] == ["-s", "emulator-5554", "shell", "-T"]
    assert machine.arguments[4].startswith("TMPDIR=/data/local/tmp ")
    assert not list(machine.temporary.iterdir())


def test_a_missing_runtime_is_one_line(machine: Machine, artifact: Path, their_python: Path) -> None:
    with pytest.raises(
        CompressError, match=r"^ssh://pi.*: the runtime openvino is not installed: pip install openvino$"
    ):
        quick([artifact], f"ssh://pi{their_python}".replace(" ", "%20"), "openvino")


def test_a_file_that_cannot_be_read_there_is_named_as_it_is_here(
    machine: Machine, artifact: Path, their_python: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(artifact, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no model")
    with pytest.raises(CompressError, match=rf"^ssh://pi.*: ONNX Runtime cannot read {broken}/model.onnx: "):
        quick([broken], f"ssh://pi{their_python}".replace(" ", "%20"))
    assert not list(machine.temporary.iterdir())


@pytest.mark.parametrize(
    ("command", "script", "address", "message"),
    [
        (
            "ssh",
            "#!/bin/sh\necho 'ssh: connect to host pi port 22: Connection refused' >&2\nexit 255\n",
            "ssh://me@pi:2222",
            "ssh://me@pi:2222: ssh: connect to host pi port 22: Connection refused; "
            "`ssh -p 2222 me@pi true` must work without a password",
        ),
        ("ssh", FAKE, "ssh://pi/no-such-python", "ssh://pi/no-such-python: no Python at no-such-python ("),
        (
            "ssh",
            "#!/bin/sh\nexit 1\n",
            "ssh://pi",
            "ssh://pi: no result: ssh exited with 1; `ssh pi python3 --version` must work",
        ),
        (
            "adb",
            "#!/bin/sh\necho \"adb: device 'xyz' not found\" >&2\nexit 1\n",
            "adb:xyz",
            "adb:xyz: no result: adb: device 'xyz' not found; `adb -s xyz shell python3 --version` must work, and "
            "`adb devices` must list it as `device`; one that is unauthorized asks on its screen",
        ),
    ],
)
def test_a_machine_that_cannot_be_used_is_one_line(
    machine: Machine, artifact: Path, command: str, script: str, address: str, message: str
) -> None:
    machine.install(command, script)
    with pytest.raises(CompressError) as caught:
        quick([artifact], address)
    assert str(caught.value).startswith(message) and len(str(caught.value).splitlines()) == 1


def test_a_missing_program_is_named(artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CompressError, match="adb:xyz: adb was not found; install Android's platform tools"):
        quick([artifact], "adb:xyz")


def test_a_program_that_does_not_start_is_named(machine: Machine, artifact: Path) -> None:
    machine.install("ssh", "no program")
    with pytest.raises(CompressError, match=r"^ssh://pi: ssh cannot be started \(Exec format error\)$"):
        quick([artifact], "ssh://pi")


def test_what_runs_nowhere_else_is_refused_before_the_machine_is_asked(
    artifact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="tensorrt are only written and checked here"):
        quick([artifact], "ssh://pi", "tensorrt")
    own = type("Own", (Runtime,), {})
    monkeypatch.setitem(RUNTIMES, "own", RuntimeEntry(own, (".onnx",)))
    monkeypatch.setattr("compress.deployment.runtimes.find_runtime", lambda name: own)
    with pytest.raises(UsageError, match="the runtime own is a plugin's, which is not sent to other machines"):
        quick([artifact], "ssh://pi", "own")


def test_only_the_files_of_an_artifact_are_sent(
    machine: Machine, artifact: Path, their_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network whose weights lie beside it, in a project that has other files too, some of them behind links."""
    project = tmp_path / "project"
    (project / "keys").mkdir(parents=True)
    for name in (".env", "keys/id_ed25519", "other.onnx", "weights.secret"):
        (project / name).write_text("secret")
    shutil.copy(artifact / "preprocess.json", project)
    onnx.save(
        onnx.load(artifact / "model.onnx"),
        project / "net.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    (project / "net.onnx").rename(tmp_path / "blob")
    (project / "net.onnx").symlink_to(tmp_path / "blob")
    sent = {}

    def write(file: IO[bytes], modules: Sequence[str], files: Mapping[str, Path], request: Mapping[str, Any]) -> None:
        write_bundle(file, modules, files, request)
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            sent.update({entry.name: entry for entry in archive if entry.name.startswith("artifacts/")})
        file.seek(0, os.SEEK_END)

    monkeypatch.setattr("compress.deployment.remote.measure.write_bundle", write)
    record = quick([project / "net.onnx"], f"ssh://pi{their_python}".replace(" ", "%20"))
    assert record["artifacts"][0]["path"] == str(project / "net.onnx")
    assert sent.keys() == {f"artifacts/0/{name}" for name in ("net.onnx", "weights.bin", "preprocess.json")}
    assert all(entry.isfile() for entry in sent.values())


def test_the_files_of_every_format_that_can_be_sent_are_known(tmp_path: Path) -> None:
    for name in RUNTIMES:
        if cannot_be_sent(name) is None:
            own, kept = tmp_path / name, {*find_runtime(name).files, "preprocess.json"}
            own.mkdir()
            for file in (*kept, "notes.txt", ".env", "SHA256SUMS"):
                (own / file).touch()
            assert {file.name for file in artifact_files(own / find_runtime(name).files[0])} == kept, name


def test_a_network_cannot_name_files_outside_its_folder(artifact: Path, tmp_path: Path) -> None:
    model = onnx.load(artifact / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    for location in ("../secret", str(tmp_path / "secret"), "a/../../secret"):
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", location
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "run" / "a").mkdir(parents=True)
    (tmp_path / "run" / "model.onnx").write_bytes(model.SerializeToString())
    assert artifact_files(tmp_path / "run" / "model.onnx") == [tmp_path / "run" / "model.onnx"]


def test_an_answer_without_figures_is_one_line(machine: Machine, artifact: Path) -> None:
    machine.install("ssh", f'#!/bin/sh\necho \'{MARK}{{{{"measured": {{{{"times": 1}}}}}}}}\'\n')
    with pytest.raises(CompressError, match=r"^ssh://pi: the answer is damaged: KeyError: 'environment'; try again"):
        quick([artifact], "ssh://pi")


def test_few_modules_are_sent() -> None:
    sent = imported(["compress.deployment.remote.worker", "compress.deployment.onnx_runtime"])
    assert {"compress", "compress.deployment.timing", "compress.utils.errors", "compress.plugins"} <= sent.keys()
    assert len(sent) < 120
    for package in ("cli", "pipeline", "training", "report", "stages", "store"):
        assert not [name for name in sent if name.startswith(f"compress.{package}")], package


SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)


@pytest.mark.slow
@pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="needs OpenSSH's server and client")
@pytest.mark.skipif(os.geteuid() == 0 and not Path("/run/sshd").is_dir(), reason="root's sshd needs /run/sshd")
def test_a_benchmark_through_a_real_sshd(
    tmp_path: Path, artifact: Path, their_python: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With keys, a known host, and a configuration of its own; `ssh` finds them as it would a user's own."""
    assert SSHD
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    shutil.copy(tmp_path / "client.pub", tmp_path / "authorized")
    port = free_port()
    (tmp_path / "sshd").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\n"
        f"StrictModes no\nPidFile none\nUsePAM no\nPasswordAuthentication no\nSetEnv TMPDIR={tmp_path}/there\n"
    )
    (tmp_path / "there").mkdir()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "config").write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {tmp_path}/client\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {tmp_path}/known\n  StrictHostKeyChecking yes\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd"], stderr=subprocess.PIPE) as server:
        try:
            wait_for(lambda: answers(port))
            record = quick([artifact, artifact], f"ssh://board{their_python}".replace(" ", "%20"), processes=2)
            assert len(record["latency"]) == 4 and all(row["p50_ms"] > 0 for row in record["latency"])
            with pytest.raises(CompressError, match="no Python at /no/python"):
                quick([artifact], "ssh://board/no/python")
            (tmp_path / "authorized").write_text("")
            with pytest.raises(
                CompressError, match=r"Permission denied .*; `ssh board true` must work without a passw"
            ):
                quick([artifact], "ssh://board")
        finally:
            server.terminate()
    assert not list((tmp_path / "there").iterdir())


def free_port() -> int:
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def answers(port: int) -> bool:
    import socket

    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0

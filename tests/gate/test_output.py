"""The verb `gate`: exit status, table, sentences, Markdown and JUnit XML."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from io import StringIO
from pathlib import Path

import pytest
import typer
import yaml
from gate.conftest import Pair
from rich.console import Console
from support import typed

import compress
from compress.cli import app
from compress.cli.tables import in_parts
from compress.gate.output import explanation, gate_junit, gate_lines, gate_markdown, gate_table
from compress.gate.records import Check, Gate, GatedRun
from compress.gate.rules import parse_rules
from compress.report.tables import to_rich


@pytest.mark.parametrize(
    ("lost", "gained", "verdict", "status"), [(0, 0, "pass", 0), (75, 25, "fail", 3), (40, 41, "cannot tell", 4)]
)
def test_verb_exits_by_the_verdict(pair: Pair, lost: int, gained: int, verdict: str, status: int) -> None:
    if lost:
        pair.change(lost, gained)
    run, against = pair.write()
    arguments = ("gate", run, "--against", against / "results.json", "--rule", "top1>=-0.5pt")
    done = typed(*arguments, cwd=pair.root)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.splitlines()[-1].startswith(f"{verdict}: ")
    done = typed(*arguments, "--json", "--junit", "gate.xml", "--markdown", "gate.md", cwd=pair.root)
    record = Gate.model_validate_json(done.stdout)
    assert done.returncode == record.exit_status == status and record.verdict == verdict
    assert (pair.root / "gate.md").read_text().startswith(f"### compress-model gate: {verdict}\n")
    suites = ElementTree.parse(pair.root / "gate.xml").getroot()
    counts = {"fail": "failures", "cannot tell": "errors"}
    assert {name for name in ("failures", "errors") if suites.attrib[name] != "0"} == (
        {counts[verdict]} if verdict in counts else set()
    )


def test_explanations_have_figure_interval_basis_and_images(pair: Pair) -> None:
    pair.change(lost=40, gained=41)
    (line,) = (explanation(check) for check in pair.gate("top1>=-0.5pt").checks)
    assert line == (
        "top1>=-0.5pt: cannot tell, +0.04pt (−0.68 to +0.76); paired, 2,500 images; about 8,721 test images could tell"
    )
    (line,) = (explanation(check) for check in pair.gate("class.cat.top1>=90%").checks)
    assert "; 250 images" in line
    pair.variant("pruned")["inference"]["bytes"] *= 2
    lines = [explanation(check) for check in pair.gate("size<=+1%", "size<=+1kB", "size<=20MB").checks]
    assert lines == [
        "size<=+1%: fail, +100.0%; counted",
        "size<=+1kB: fail, +17.3 MB; counted",
        "size<=20MB: fail, 34.6 MB; counted",
    ]
    pair.after["environment"]["cpu"] = "another"
    (line,) = (explanation(check) for check in pair.gate("latency.openvino.1<=+5%").checks)
    assert line.startswith(
        "latency.openvino.1<=+5%: cannot tell, timed on another machine: another, 2 threads instead of AMD"
    )


def test_a_figure_at_its_bound_names_no_images(pair: Pair) -> None:
    pair.change(lost=40, gained=40)
    assert "no number of images is known to tell" in gate_lines(pair.gate("top1>=+0pt"))[0]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_table_breaks_no_figure(pair: Pair, width: int) -> None:
    pair.change(lost=40, gained=41)
    console = Console(width=width, file=StringIO())
    for part in in_parts(console, to_rich(gate_table(pair.gate(variants=()))), width):
        console.print(part)
    assert isinstance(console.file, StringIO)
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for figure in ("+0.04pt (−0.68 to +0.76)", "81.8%", "17.3 MB"):
        assert any(figure in line for line in lines)


HOSTILE = "<b>|`x`\x1b[31m\ufffe\u202e&"


def test_hostile_names_are_escaped(pair: Pair) -> None:
    for run in (pair.before, pair.after):
        pair.variant("pruned", run)["id"] = HOSTILE
        run["run"]["id"] = HOSTILE
    right = pair.variant(HOSTILE)["accuracy"]
    right["right"] = "0" * len(right["right"])
    found = pair.gate("top1>=-1pt", variants=(HOSTILE,))
    assert found.verdict == "fail"
    case = next(ElementTree.fromstring(gate_junit(found)).iter("testcase"))
    assert case.attrib["classname"].startswith("<b>|`x`") and case[0].attrib["type"] == "fail"
    text = gate_markdown(found)
    assert "<b>" not in text and "\\<b\\>\\|\\`x\\`" in text and "\x1b" not in text + "".join(gate_lines(found))
    assert "\u202e" not in text + gate_junit(found)


def test_markdown_is_a_table_and_reasons(pair: Pair) -> None:
    pair.change(lost=75, gained=25)
    text = gate_markdown(pair.gate("top1>=-0.5pt", "size<=+1%"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4 and {row.count("|") - row.count("\\|") for row in rows} == {6}
    assert "- pruned: top1\\>=-0.5pt: fail, −2.00pt" in text
    assert text.splitlines()[-1].startswith("- fail: 1 pass, 1 fail, after against ")


def test_long_lists_of_reasons_are_cut(pair: Pair) -> None:
    for variant in pair.after["variants"]:
        variant["inference"]["bytes"] *= 2
    found = pair.gate(*(f"size<=+{percent}%" for percent in range(10)), variants=())
    assert len(found.checks) == 50 and "and 30 more that did not pass" in gate_lines(found)
    assert gate_junit(found).count("<failure") == 50


def test_markdown_of_many_checks_fits_a_comment(pair: Pair) -> None:
    """Failed checks come first, then those that cannot be told; GitHub takes up to 65,536 characters."""
    pair.change(lost=75, gained=25)
    found = pair.gate("top1>=-0.5pt", "size<=+1%")
    failed, passed = sorted(found.checks, key=lambda check: check.verdict)
    unknown = failed.model_copy(update={"verdict": "cannot tell"})
    many = found.model_copy(update={"checks": (*[passed] * 4990, *[unknown] * 4, *[failed] * 6)})
    text = gate_markdown(many)
    verdicts = [line.split("|")[2].strip() for line in text.splitlines() if line.startswith("|")][2:]
    assert verdicts == ["fail"] * 6 + ["cannot tell"] * 4 + ["pass"] * 90
    assert "\n\nand 4,900 more passed\n" in text and len(text) < 65_536
    text = gate_markdown(found.model_copy(update={"checks": (*[failed] * 150, *[passed] * 3)}))
    assert "\n\nand 50 more that did not pass and 3 more passed\n" in text and len(text) < 65_536


def test_places_where_no_file_can_be_are_refused_first(pair: Pair) -> None:
    done = typed("gate", "nowhere", "--against", "else", "--junit", "no/gate.xml", cwd=pair.root)
    assert done.returncode == 2
    assert done.stderr == "error: no does not exist; create it, or name a file elsewhere with --junit\n"
    done = typed("gate", "nowhere", "--against", "else", "--markdown", ".", cwd=pair.root)
    assert done.stderr == "error: --markdown . is a folder; name a file in it\n"


def test_output_to_a_pipe_is_no_file_beside_it(pair: Pair) -> None:
    run, against = pair.write()
    pipe = pair.root / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    done = typed("gate", run, "--against", against, "--markdown", pipe, cwd=pair.root)
    assert done.returncode == 0 and os.read(reader, 100).startswith(b"### compress-model gate: pass")
    os.close(reader)
    assert pipe.is_fifo() and not list(Path(pair.root).glob(".*.partial"))


def test_wrong_rules_are_all_named_in_one_call(pair: Pair) -> None:
    run, against = pair.write()
    rules = ("--rule", "top1>=-1", "--rule", "size<=+1%", "--rule", "latency.x.1<=+1%")
    done = typed("gate", run, "--against", against, *rules, "--variant", "all", cwd=pair.root)
    assert (done.returncode, done.stdout) == (2, "")
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == [
        "rule 'top1>=-1'",
        "--variant all",
    ]


def test_record_is_described(pair: Pair) -> None:
    found = pair.gate()
    assert Gate.model_validate_json(found.to_json()) == found
    for model in (Gate, Check, GatedRun):
        assert all(field.description for field in model.model_fields.values())


def test_workflow_of_the_readme_calls_the_gate_and_keeps_its_status(pair: Pair) -> None:
    """Its shell step, with stand-ins for the program and for `gh`."""
    page = (Path(compress.__file__).parent / "gate" / "README.md").read_text()
    (text,) = re.findall(r"```yaml\n(on: pull_request.*?)```", page, re.DOTALL)
    (script,) = (
        step["run"] for step in yaml.safe_load(text)["jobs"]["model"]["steps"] if "gate.xml" in step.get("run", "")
    )
    for name, body in (
        ("compress-model", 'printf "%s\\n" "$@" > called; echo x > gate.md; exit $STATUS'),
        ("gh", "exit 1"),  # the comment is refused
    ):
        (pair.root / name).write_text(f"#!/bin/sh\n{body}\n")
        (pair.root / name).chmod(0o755)
    for folder in ("RECIPE/20261129-120000", "store/2f9c"):
        (pair.root / "runs" / folder).mkdir(parents=True)
    script = script.replace("${{ github.event.number }}", "7")
    (lenient,) = re.findall(r"let through what cannot be told, end with `(.*?)`", page)
    endings = {"exit ${status:-0}": (0, 1, 2, 3, 4), lenient: (0, 1, 2, 3, 0)}
    for ending, expected in endings.items():
        own = script.replace("exit ${status:-0}", ending)
        assert ending in own
        for status in range(5):
            summary = {"GITHUB_STEP_SUMMARY": str(pair.root / "summary"), "STATUS": str(status)}
            variables = {**os.environ, **summary, "PATH": f"{pair.root}:{os.environ['PATH']}"}
            done = subprocess.run(["bash", "-eo", "pipefail", "-c", own], cwd=pair.root, env=variables)
            assert done.returncode == expected[status], (ending, status)
    arguments = (pair.root / "called").read_text().splitlines()
    assert arguments[:3] == ["gate", "runs/RECIPE/20261129-120000/", "--against"]
    rules = [rule for option, rule in itertools.pairwise(arguments) if option == "--rule"]
    assert len(rules) == 3 and parse_rules(rules)[1] == []
    command = typer.main.get_command(app).commands["gate"]  # type: ignore[attr-defined]
    with command.make_context("gate", arguments[1:]) as context:
        assert context.params["against"] == Path("baseline.json")

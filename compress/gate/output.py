"""A gate as a table, sentences, Markdown and JUnit XML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence

from compress.gate.records import Check, Gate
from compress.gate.rules import UnitName
from compress.report import formats as f
from compress.report.page import markdown
from compress.report.tables import Column, Table, make_table
from compress.utils.messages import join_words

MAX_LINES = 20  # of checks that did not pass, in the terminal and in Markdown
MAX_ROWS = 100  # of the table in Markdown: a comment on GitHub has up to 65,536 characters

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
FORMATS: Mapping[UnitName, f.Format] = {
    "share": f.percent,
    "bytes": f.size,
    "count": f.count,
    "ms": f.milliseconds,
}


def gate_table(gate: Gate, checks: Sequence[Check] | None = None) -> Table:
    """Lay out these checks, by default all."""
    columns: tuple[Column[Check], ...] = (
        Column("variant: rule", lambda check: f.plain(f"{check.variant}: {check.rule}"), False),
        Column("verdict", lambda check: check.verdict, False),
        Column("baseline", lambda check: _figure(check, check.baseline)),
        Column("run", lambda check: _figure(check, check.value)),
        Column("bounded (95% interval)", _measured),
    )
    return make_table(
        "gate",
        "",
        "",
        columns,
        gate.checks if checks is None else checks,
        empty="No variant has a metric of these rules.",
    )


def gate_lines(gate: Gate) -> list[str]:
    """State why checks did not pass, what restricts them, and the verdict in the last line."""
    open_checks = [check for check in gate.checks if check.verdict != "pass"]
    lines = [f"{f.plain(check.variant)}: {explanation(check)}." for check in open_checks[:MAX_LINES]]
    if more := len(open_checks) - MAX_LINES:
        lines += [f"and {more} more that did not pass"] if more > 0 else []
    lines += [f"{f.plain(remark)}." for remark in gate.remarks]
    return [*lines, summary(gate)]


def summary(gate: Gate) -> str:
    """State the verdict, with the number of checks of each kind."""
    counts = {
        verdict: sum(check.verdict == verdict for check in gate.checks) for verdict in ("pass", "fail", "cannot tell")
    }
    kinds = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"{gate.verdict}: {kinds or 'no checks'}, {f.plain(gate.run.id)} against {f.plain(gate.baseline.id)}"


def explanation(check: Check) -> str:
    """Explain a verdict in one line: what was found, on which basis, and how many images could tell."""
    text = f"{f.plain(check.rule)}: {check.verdict}"
    if check.measured is None:
        return f"{text}, {f.plain(check.compared)}"
    text += f", {_measured(check)}; {f.plain(check.compared)}"
    if check.verdict != "cannot tell" or check.images is None:
        return text
    if check.images_needed is None:
        return f"{text}; what was measured is the bound itself, so no number of images is known to tell"
    of = " of the class" if check.metric.startswith("class.") else ""
    return f"{text}; about {check.images_needed:,} test images{of} could tell"


def gate_markdown(gate: Gate) -> str:
    """Render a comment for a pull request, or a job's summary; what did not pass comes first, up to `MAX_ROWS`."""
    checks = sorted(gate.checks, key=lambda check: ("fail", "cannot tell", "pass").index(check.verdict))
    table = gate_table(gate, checks[:MAX_ROWS])
    rule = ["---:" if figure else "---" for figure in table.figures]
    rows = ["| " + " | ".join(map(markdown, row)) + " |" for row in table.rows]
    lines = [markdown(line) for line in gate_lines(gate)]
    parts = [f"### compress-model gate: {gate.verdict}"]
    if rows:
        parts.append("\n".join(["| " + " | ".join(table.headings) + " |", "|" + "|".join(rule) + "|", *rows]))
    if more := checks[MAX_ROWS:]:
        passed = sum(check.verdict == "pass" for check in more)
        counts = {"that did not pass": len(more) - passed, "passed": passed}
        kinds = [f"{count:,} more {kind}" for kind, count in counts.items() if count]
        parts.append(f"and {join_words(kinds, 'and')}")
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in lines)]) + "\n"


def gate_junit(gate: Gate) -> str:
    """Render JUnit XML: a test case per check, a failure where it fails, and an error where it cannot be told."""
    checks = gate.checks
    counts = {
        "tests": str(len(checks)),
        "failures": str(sum(check.verdict == "fail" for check in checks)),
        "errors": str(sum(check.verdict == "cannot tell" for check in checks)),
    }
    root = ElementTree.Element("testsuites", {"name": "compress-model gate", **counts})
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {"name": _xml(f"{gate.run.recipe} against {gate.baseline.id}"), **counts, "timestamp": _xml(gate.run.started)},
    )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", {"classname": _xml(check.variant), "name": _xml(check.rule)})
        if check.verdict == "pass":
            ElementTree.SubElement(case, "system-out").text = _xml(explanation(check))
        else:
            kind = "failure" if check.verdict == "fail" else "error"
            ElementTree.SubElement(case, kind, {"message": _xml(explanation(check)), "type": check.verdict})
    if gate.remarks:
        ElementTree.SubElement(suite, "system-out").text = _xml("\n".join(gate.remarks))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _figure(check: Check, value: float | None) -> str:
    return FORMATS[check.unit](value)


def _measured(check: Check) -> str:
    """Write what the rule bounds, with its interval."""
    if check.measured is None:
        return f.UNKNOWN
    ends = check.ci95
    if check.basis == "figure":
        write = FORMATS[check.unit]
    elif check.basis == "ratio":
        write = f.known(lambda ratio: _signed(100 * ratio, 1, "%"))
    elif check.unit == "share":
        write = f.known(lambda difference: _signed(100 * difference, 2, "pt"))
    else:
        write = f.known(lambda difference: ("+" if difference > 0 else "") + FORMATS[check.unit](difference))
    interval = f" ({write(ends[0]).rstrip('%pt')} to {write(ends[1]).rstrip('%pt')})" if ends else ""
    return f"{write(check.measured)}{interval}".replace("-", "−")


def _signed(value: float, digits: int, unit: str) -> str:
    return f"{value:+.{digits}f}{unit}" if round(value, digits) else f"{0:.{digits}f}{unit}"


def _xml(text: str) -> str:
    """Replace characters that XML 1.0 cannot contain, and those that disguise a name."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", "\n".join(map(f.plain, text.split("\n"))))

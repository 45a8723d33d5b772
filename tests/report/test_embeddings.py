"""Section "Embeddings": networks, files and the teacher; nothing where no variant gives embeddings."""

from __future__ import annotations

from typing import Any

from results_factory import derive, example, example_record

from compress.report import render_html, render_markdown
from compress.report.embeddings import embedding_tables
from compress.report.tooltips import tooltip
from compress.results import EmbeddingFigures, Embeddings, RecallAt, RunRecord, ZeroShot


def figures(top1: float, *, held_out: bool) -> dict[str, Any]:
    sets = (("trained", "trained"), *((("held-out", "all"), ("all", "all")) if held_out else ()))
    found = EmbeddingFigures(
        zero_shot=tuple(
            ZeroShot(images=images, names=names, top1=top1, ci95=(top1 - 0.01, top1 + 0.01), n=100)  # type: ignore[arg-type]
            for images, names in sets
        ),
        image_to_image=tuple(RecallAt(k=k, recall=0.5, ci95=(0.4, 0.6), n=100) for k in (1, 5, 10)),
        image_to_text=(RecallAt(k=1, recall=top1, ci95=(0.4, 0.6), n=100),),
    )
    return dict(found)


def record(*, held_out: bool) -> RunRecord:
    """The example, whose variants from `distilled` on are embedding students, each with a file."""
    results = example()
    if held_out:
        results["data"]["held_out"] = ["horse", "<truck>"]
    for variant in results["variants"]:
        if variant["id"] in ("distilled", "pruned", "int8"):
            teacher = EmbeddingFigures(**figures(0.9, held_out=held_out))
            own = Embeddings(
                **figures(0.8, held_out=held_out),
                width=8,
                images=100,
                cosine=0.75,
                rank_correlation=0.5,
                teacher=teacher,
            )
            variant["embeddings"] = own.model_dump(mode="json")
            for artifact in variant["artifacts"]:
                artifact["embeddings"] = own.model_dump(mode="json")
    for variant in results["variants"]:
        if variant["id"] == "distilled":
            variant["parent"] = "teacher"
    return derive(results)


def test_rows_are_the_teacher_networks_and_files() -> None:
    (table,) = embedding_tables(record(held_out=True))
    rows = {row[0]: row for row in table.rows}
    assert list(rows) == ["teacher", "distilled", "pruned", "int8"], "files with the same figures share a row"
    assert rows["teacher"][2:5] == ("90.0% (89.0 to 91.0%)",) * 3
    assert rows["teacher"][-2:] == ("teacher", "teacher")
    assert rows["distilled"][5:] == ("50.0% / 50.0% / 50.0%", "80.0%", "0.750", "0.500")
    assert rows["distilled"][1].startswith("pytorch, ") and "pytorch" not in rows["int8"][1]
    html = render_html(record(held_out=True))
    assert "<truck>" not in html and "&lt;truck&gt;" in html
    for heading, figure in zip(table.headings, table.figures, strict=True):
        assert not figure or tooltip(table.key, heading), heading


def test_columns_of_held_out_classes_are_there_only_with_such() -> None:
    (table,) = embedding_tables(record(held_out=False))
    assert not any("held-out" in heading for heading in table.headings) and "held out" not in table.note
    assert {len(row) for row in table.rows} == {len(table.headings)}


def test_other_runs_have_no_such_section() -> None:
    assert embedding_tables(example_record()) == []
    assert "## Embeddings" not in render_markdown(example_record())
    assert "## Embeddings" in render_markdown(record(held_out=True))

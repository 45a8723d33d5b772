"""Every kind of mistake is reported at its line, with a fix."""

from __future__ import annotations

import resource
import time
from typing import ClassVar, Literal

import pytest
from pydantic import Field
from recipe.recipe_texts import BAD, GOOD

from compress import plugins
from compress.recipe import parse_recipe
from compress.recipe.base import Identifier, Section
from compress.recipe.stage import NETWORK
from compress.stages.kind import StageKind
from compress.utils.errors import RecipeError


def problems_of(text: str, *overrides: str, file: str = "bad.yaml") -> list[tuple[str, str]]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, overrides, file)
    return [(problem.where, problem.message) for problem in caught.value.problems]


def test_valid_recipe_is_accepted() -> None:
    assert parse_recipe(GOOD, file="good.yaml").name == "small"


@pytest.mark.parametrize(("old", "new", "line", "words"), BAD, ids=[f"{row[1][:40]!r}" for row in BAD])
def test_mistake_is_reported_at_its_line(old: str, new: str, line: int, words: tuple[str, ...]) -> None:
    assert old in GOOD
    problems = problems_of(GOOD.replace(old, new, 1))
    here = [message for where, message in problems if where == f"bad.yaml:{line}"]
    assert any(all(word in message for word in words) for message in here), problems
    assert all("\n" not in message and "pydantic" not in message for _, message in problems)
    assert len(here) <= 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("student: resnet18", "batch: 1\n    student: convnext_atto"),  # without batch norm
        (
            "lr: 1e-1",
            "batch: 1\n    freeze: [bn1, '*.bn*', '*.downsample.1']",
        ),  # frozen ones take no batch's statistics
        ("lr: 1e-1", "batch: 2"),
    ],
)
def test_small_batches_are_accepted_where_no_batch_norm_needs_more(old: str, new: str) -> None:
    text = GOOD.replace("target_macs: 0.5", "target_macs: 0.5\n    keep: []")
    assert parse_recipe(text.replace(old, new, 1), file="good.yaml").stages[1].id == "distilled"


def test_all_mistakes_are_reported_at_once() -> None:
    text = GOOD
    for old, new in [
        ("seed: 7", "seed: seven"),
        ("flip: true", "flop: true"),
        ("kind: quantize", "kind: quantise"),
        ("from: distilled\n", "from: distiled\n"),
        ("epochs: 3", "epochs: -3"),
    ]:
        text = text.replace(old, new, 1)
    assert [where for where, _ in problems_of(text)] == [f"bad.yaml:{line}" for line in (2, 7, 17, 21, 25)]


TEACHERS = "{source: ensemble, members: [{source: timm, model: resnet18, pretrained: true}, MEMBER]}"


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("{model: resnet34}", "source: is missing; allowed: open_clip, timm or torchvision"),
        ("{source: tim}", "source: unknown source 'tim'; did you mean 'timm'? allowed: open_clip, timm or torchvision"),
        ("{source: ensemble}", "source: unknown source 'ensemble'; allowed: open_clip, timm or torchvision"),
    ],
)
def test_a_member_of_an_ensemble_needs_a_source_of_its_own(member: str, message: str) -> None:
    teacher = "{source: timm, model: resnet50, pretrained: true}"
    problems = problems_of(GOOD.replace(teacher, TEACHERS.replace("MEMBER", member)))
    assert [text for _, text in problems] == [f"stages.teacher.teacher.members.1.{message}"]


class Policy(Section):
    """How networks are averaged."""

    weight: float = 0.5


class Average(StageKind):
    """The mean of several networks, which no kind of this package starts from."""

    kind: Literal["average"]
    from_: list[Identifier] = Field(alias="from", min_length=1)
    policy: Policy = Policy()

    maker: ClassVar[str] = "nowhere:make"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from_many: ClassVar[bool] = True
    named_sections: ClassVar[tuple[str, ...]] = ("policy",)


AVERAGES = """\
data: cifar10-sample
stages:
  - {id: own, kind: train, student: resnet18}
  - {id: a, kind: average, from: [own, b]}
  - {id: b, kind: average, from: [own, c], policy: POLICY}
  - {id: c, kind: average, from: [LAST, own]}
"""


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize(("last", "path"), [("a", "a -> b -> c -> a"), ("b", "b -> c -> b"), ("c", "c -> c")])
def test_circular_dependency_of_a_plugin_with_several_parents(last: str, path: str) -> None:
    plugins.stage(Average)
    problems = problems_of(AVERAGES.replace("POLICY", "{}").replace("LAST", last))
    assert [text for _, text in problems] == [f"stages.{path[0]}.from: circular dependency: {path}"]


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize("policy", ["equal", "{use: equal}", "{use: 3}"])
def test_a_section_of_a_plugin_has_no_configs_to_name(policy: str) -> None:
    plugins.stage(Average)
    problems = problems_of(AVERAGES.replace("POLICY", policy).replace("LAST", "own"))
    assert "stages.b.policy: must be a section; it has no shipped configs to name" in [text for _, text in problems]


def test_circular_dependency_is_reported_once_with_its_path() -> None:
    text = GOOD.replace("from: distilled\n", "from: again\n").replace(
        "  - id: files", "  - {id: again, kind: prune, from: pruned, target_macs: 0.2}\n  - id: files"
    )
    cycles = [message for _, message in problems_of(text) if "circular" in message]
    assert cycles == ["stages.pruned.from: circular dependency: pruned -> again -> pruned"]


def test_number_of_reported_problems_is_limited() -> None:
    problems = problems_of(GOOD + "".join(f"key{number}: 1\n" for number in range(5000)))
    assert len(problems) == 101
    assert "more than 100 problems" in problems[-1][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("- a\n- b\n", "must be a section of keys and values, not a list"),
        ("quickstart", "must be a section of keys and values, not 'quickstart'"),
        ("\ud800", "not UTF-8"),
        ("a: " + "x" * 2**20, "larger than 1 MiB"),
        ("a: [" + "1," * 30_000 + "]", "more than 20000 values"),
    ],
)
def test_text_that_is_not_a_recipe_is_one_problem(text: str, words: str) -> None:
    assert [words in message for _, message in problems_of(text)] == [True]


def test_alias_expansion_is_bounded() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 12)]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert "more than 20000 values" in problems_of("\n".join(lines))[0][1]
    assert time.process_time() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_deep_nesting_is_rejected_quickly() -> None:
    start = time.process_time()
    assert "deeper" in problems_of("a: " + "[" * 500_000)[0][1]
    assert "deeper" in problems_of("a: " + "{a: " * 200_000)[0][1]
    assert time.process_time() - start < 2


def test_alias_is_a_copy() -> None:
    text = GOOD.replace("student: resnet18", "student: &s {model: resnet18}").replace(
        "  - id: files", "  - {id: other, kind: train, student: *s}\n  - id: files"
    )
    recipe = parse_recipe(text, ["stages.other.student.model=resnet34"])
    models = {stage.id: stage.student.model for stage in recipe.stages if hasattr(stage, "student")}
    assert models == {"distilled": "resnet18", "other": "resnet34"}


def test_many_stages_are_checked_quickly() -> None:
    stages = [f"  - {{id: p{n}, kind: prune, from: p{n + 1}, target_macs: 0.5}}\n" for n in range(900)]
    text = GOOD.replace("  - id: files", "".join(stages) + "  - id: files")
    start = time.process_time()
    assert "p900" in problems_of(text)[0][1]
    assert time.process_time() - start < 2

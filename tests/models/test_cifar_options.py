"""Options of the networks for images of 32 pixels: unknown ones and values outside of their limits are refused."""

from __future__ import annotations

import pytest
import torch

from compress.models.catalog import catalog
from compress.models.checks import model_problems
from compress.models.factory import create_model
from compress.recipe.models import Option
from compress.utils.errors import UsageError


def test_no_network_takes_unknown_options() -> None:
    known = catalog("timm")
    names = [name for name in known.tags if name.startswith("cifar_")] if known else []
    assert len(names) == 10
    for name in names:
        with pytest.raises(UsageError, match=rf"timm's {name} does not take `options` .* argument 'widht'"):
            create_model("timm", name, 10, 32, options={"widht": 2})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cifar_resnet8", {"width": 0.1}, "`width: 0.1` should be greater than or equal to 0.25"),
        ("cifar_resnet8", {"width": True}, "`width: True` should be a valid number"),
        ("cifar_resnet20", {"option": "C"}, "`option: C` should be 'A' or 'B'"),
        ("cifar_resnet18", {"stride": 5}, "`stride: 5` should be less than or equal to 2"),
        ("cifar_resnet18", {"width": float("nan")}, "`width: nan` should be a finite number"),
        ("cifar_mobilenetv2", {"stride": 0}, "`stride: 0` should be greater than or equal to 1"),
        ("cifar_mobilenetv2", {"dropout": 1}, "`dropout: 1` should be less than 1"),
        (
            "cifar_shufflenetv2",
            {"channels": 25, "last": 0},
            "`channels: 25` should be a multiple of 2, `last: 0` should be greater than or equal to 8",
        ),
    ],
)
def test_values_outside_of_the_limits_are_refused_before_training(
    name: str, options: dict[str, Option], message: str
) -> None:
    expected = f"`options` of {name}: {message}"
    with pytest.raises(UsageError) as refused:
        create_model("timm", name, 10, 32, options=options)
    assert str(refused.value) == expected
    assert list(model_problems("timm", name, options)) == [expected]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar_resnet8", {"width": 0.25, "stride": 2}),
        ("cifar_resnet18", {"width": 0.0625, "stride": 2}),
        ("cifar_mobilenetv2", {"width": 0.25, "stride": 2, "last": 8}),
        ("cifar_shufflenetv2", {"channels": 8, "last": 8}),
    ],
)
def test_networks_at_their_lower_limits_train_on_32_pixels(name: str, options: dict[str, Option]) -> None:
    model = create_model("timm", name, 3, 32, options=options).train()
    model(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_published_weights_are_refused_as_there_are_none() -> None:
    with pytest.raises(UsageError, match="timm has no weights of cifar_resnet8; give your own as `checkpoint`"):
        create_model("timm", "cifar_resnet8", 10, 32, pretrained=True)

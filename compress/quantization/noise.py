"""Why INT8 hurts: the error that each layer of a quantized network makes, against the same network in float.

Of each quantized layer are measured

- the range of its input on the calibration set, against the range of its integers, and the share that saturates;
- the signal-to-quantization-noise ratio (SQNR) of its output: alone, from float inputs, and in the quantized network;
- the share of the logits' error that disappears if it alone stays in float.

Nothing of this changes the network, so it is no part of its training ledger, as evaluation is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.measurement.device import exact_float32
from compress.quantization.calibration_range import expected_range, spread
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.noise_record import Measured, noise_record
from compress.quantization.noise_sums import LayerRun, QuantizedInput, Sums, ratio, squares
from compress.results import QuantizationNoise

IMAGES = 64  # images of the calibration set that errors are measured on; ranges are those of all of it
BATCH = 16  # the outputs of all layers of a batch are held at once
RANKED_IMAGES = 8  # images on which single layers are returned to float
RANKED_LAYERS = 12  # layers that are tried so, those with the lowest SQNR of their own


class NetworkPair(Protocol):
    """A float network and the one that was quantized from it."""

    @property
    def layers(self) -> Sequence[QuantizedInput]:
        """The quantized layers; others refer to them by their number."""

    def run(self, images: Tensor, see: Callable[[int, LayerRun], None], errors: bool) -> tuple[Tensor, Tensor | None]:
        """Run images `[b, 3, r, r]` through the float network, and with `errors` through the quantized one.

        Args:
            images: A batch.
            see: Is called with the number of each quantized layer and what it computes.
            errors: Whether to compute the errors of layers.

        Returns:
            The logits of the float network, and with `errors` those of the quantized one.
        """

    def logits(self, images: Tensor, in_float: int | None) -> Tensor:
        """Return the logits of the quantized network, or of it with one layer in float, which `run` has seen."""


@torch.no_grad()
def explain(
    model: nn.Module,
    quantized: Quantized,
    config: QuantizationConfig,
    calibration: Sequence[Tensor],
    validation: Sequence[Tensor],
) -> QuantizationNoise | None:
    """Measure the errors of the layers of a quantized network, and how far its calibration set covers validation.

    Args:
        model: The float network, on the CPU as the quantized one.
        quantized: The network that was quantized from it.
        config: Its settings.
        calibration: The calibration set, batches `[b, 3, r, r]` as the network takes them.
        validation: Validation images likewise, a random choice; may be empty.

    Returns:
        What was measured; None where no layer rounds its input to integers of one scale, and for an ONNX file with
        equalized channels, as its tensors are not those of the float file.
    """
    device = torch.device(config.device if isinstance(quantized.network, GraphModule) else "cpu")
    with exact_float32(device), _paired(model, quantized, config, calibration[0][:1].repeat(2, 1, 1, 1)) as pair:
        if pair is None or not pair.layers:
            return None
        comparison = _Comparison(pair)
        seen = measured = 0
        for batch in _small(calibration, device):
            comparison.add(batch, measured < IMAGES)
            measured += len(batch) if measured < IMAGES else 0
            seen += len(batch)
        comparison.close_ranges()
        shown = 0
        for batch in _small(validation, device):
            comparison.add_validation(batch)
            shown += len(batch)
        ranked = torch.cat(list(validation or calibration))[:RANKED_IMAGES]
        rows = comparison.measured(ranked.to(device))
    return noise_record(rows, (seen, measured, shown), comparison.logits)


def _paired(
    model: nn.Module, quantized: Quantized, config: QuantizationConfig, example: Tensor
) -> AbstractContextManager[NetworkPair | None]:
    from compress.quantization.noise_onnx import file_pair
    from compress.quantization.noise_pt2e import graph_pair

    if isinstance(quantized.network, GraphModule):
        return graph_pair(model, quantized.network, config, example)
    return file_pair(quantized, config)


class _Comparison:
    """A pair of networks, and what was summed over the images so far."""

    def __init__(self, pair: NetworkPair) -> None:
        self.pair = pair
        self.calibration, self.validation = ([Sums() for _ in pair.layers] for _ in range(2))
        self.ranges: list[tuple[float, float]] = []  # extremes of the inputs on the calibration set
        self.logits = (0.0, 0.0)  # squares of the logits of the calibration set, and of their errors

    def add(self, images: Tensor, errors: bool) -> None:
        """Add a batch of the calibration set: the extremes, and the errors of layers where `errors`."""

        def measure(number: int, run: LayerRun) -> None:
            sums = self.calibration[number]
            sums.extremes(run.given, run.channel)
            if run.errors:
                sums.add_input(self.pair.layers[number], run.given)
                sums.add_errors(run.output, run.errors)

        exact, logits = self.pair.run(images, measure, errors)
        if logits is not None:
            self.logits = self.logits[0] + squares(exact), self.logits[1] + squares(exact - logits)

    def add_validation(self, images: Tensor) -> None:
        """Add a batch of validation: what of the inputs is beyond the ranges."""

        def measure(number: int, run: LayerRun) -> None:
            self.validation[number].add_input(self.pair.layers[number], run.given)
            self.validation[number].beyond(run.given, *self.ranges[number])

        self.pair.run(images, measure, errors=False)

    def close_ranges(self) -> None:
        """Take the extremes so far as those of the calibration set."""
        self.ranges = [(min(each.lows), max(each.highs)) for each in self.calibration]

    def measured(self, images: Tensor) -> list[Measured]:
        """Return the figures of all layers; the worst of them are tried in float on `images`."""
        removed = self._ranked(images)
        rows = []
        for number, (layer, own) in enumerate(zip(self.pair.layers, self.calibration, strict=True)):
            seen = self.validation[number]
            assert own.channels is not None
            rows.append(
                Measured(
                    layer=layer.name,
                    own=own,
                    validation=seen if seen.values else None,
                    range=self.ranges[number],
                    quantized_range=layer.range,
                    half=expected_range(own.lows, own.highs),
                    spread=spread(own.channels.tolist()),
                    removes=removed.get(number),
                )
            )
        return rows

    def _ranked(self, images: Tensor) -> dict[int, float]:
        """Return the share of the logits' error that disappears with one layer in float, by number of the layer."""
        order = sorted(range(len(self.pair.layers)), key=self._own_error, reverse=True)
        exact, _ = self.pair.run(images, lambda number, run: None, errors=False)
        error = squares(exact - self.pair.logits(images, None))
        if not error:
            return {}
        return {
            number: 1 - squares(exact - self.pair.logits(images, number)) / error for number in order[:RANKED_LAYERS]
        }

    def _own_error(self, number: int) -> float:
        """Return the squared error of a layer alone on the calibration set, or of its input where that is larger."""
        own, seen = self.calibration[number], self.validation[number]
        return max(ratio(own.alone, own.output), seen.input_error)


def _small(batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            yield batch[start : start + BATCH].to(device)

"""Which methods have the settings of a quantization: what `method: auto` chooses by. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from compress import registry
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Method


@dataclass(frozen=True)
class Demands:
    """Settings that not every method has, by their keys in a `quantize` stage; the defaults are those of all."""

    observer: str | None = None
    target: str = "x86"
    linear_weight_bits: int = 8
    bias_correction: bool = False
    equalize: bool = False
    reduce_range: bool | None = None
    keep: bool = False
    keep_accuracy: bool = False
    training: bool = False
    from_onnx: bool = False  # whether the network is an ONNX file

    @classmethod
    def of(cls, config: QuantizationConfig) -> Demands:
        """Return the demands of settings that are given directly."""
        return cls(
            observer=config.observer,
            target=config.target,
            linear_weight_bits=config.linear_weight_bits,
            bias_correction=config.bias_correction != "off",
            equalize=config.equalize,
            keep=bool(config.keep),
        )

    def unmet(self, method: Method) -> tuple[str, ...]:
        """Return the keys of the settings that a method does not have."""
        lacks = {
            "observer": self.observer is not None and self.observer not in method.observers,
            "target": self.target not in method.targets,
            "linear_weight_bits": self.linear_weight_bits != 8 and not method.in_file,
            "bias_correction": self.bias_correction and not method.corrects,
            "equalize": self.equalize and not method.corrects,
            "reduce_range": self.reduce_range is True and not method.reduces,
            "keep": self.keep and not method.keeps,
            "keep_accuracy": self.keep_accuracy and not method.keeps,
            "training": self.training and not method.trains,
            "from": self.from_onnx and not method.in_file,
        }
        return tuple(key for key, lacking in lacks.items() if lacking)


def first_able(names: Iterable[str], demands: Demands) -> str | None:
    """Return the first of several methods that has all settings; None if none has."""
    return next((name for name in names if not demands.unmet(registry.quantizer(name))), None)


def of_variants() -> tuple[str, ...]:
    """Return the methods whose networks are variants of a run, which a recipe can name."""
    return tuple(name for name, method in registry.quantizers().items() if method.restore)

"""One variant of a run."""

from __future__ import annotations

from pydantic import Field

from compress.results.accuracy import Accuracy, Control, Published, PublishedInference
from compress.results.artifacts import Artifact, RuntimeChoice
from compress.results.base import Record, absent
from compress.results.embeddings import Embeddings
from compress.results.inference import MeasuredInference
from compress.results.methods import Pruning, Quantization, Sparsity
from compress.results.quality import Quality
from compress.results.training import Training


class Variant(Record):
    """The model that a stage made."""

    id: str = Field(description="Id of the stage that made it")
    kind: str = Field(description="Kind of that stage")
    parent: str | None = Field(None, description="Variant that it was made from")
    stage_key: str | None = Field(None, description="Key of everything that determines it; its folder in the store")
    accuracy: Accuracy = Field(description="Top-1 on the test split")
    quality: Quality | None = absent("Predictions beyond top-1, of the network in PyTorch on the test split")
    validation: Accuracy | None = Field(None, description="Top-1 on the validation split, on which choices are made")
    preprocess: str | None = absent("How an image becomes its input, in one line")
    remarks: tuple[str, ...] | None = absent("What was noticed when its weights were loaded")
    published: Published | None = Field(None, description="Accuracy that others published for it")
    published_inference: tuple[PublishedInference, ...] | None = absent("Speed and memory that others published for it")
    inference: MeasuredInference = Field(description="Cost of inference")
    training: Training = Field(description="Cost of making it, its ancestors included")
    artifacts: tuple[Artifact, ...] = Field((), description="Deployable files")
    choices: tuple[RuntimeChoice, ...] | None = Field(
        None, description="Of `runtimes: auto`: the fastest file that holds the accuracy, by batch size"
    )
    pruning: Pruning | None = Field(None, description="Of a pruned variant")
    sparsity: Sparsity | None = Field(None, description="Of a sparsified variant")
    quantization: Quantization | None = Field(None, description="Of a quantized variant")
    embeddings: Embeddings | None = absent("Of an embedding student: of the network in PyTorch on the test split")
    control: Control | None = Field(None, description="Of a shrink or match stage: accuracy against its variant")

"""Embeddings of a variant or a file that ends in its teacher's embedding space."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record, absent

ZeroShotSet = Literal["trained", "held-out", "all"]


class ZeroShot(Record):
    """Zero-shot top-1: share of images whose nearest text embedding is that of their class."""

    images: ZeroShotSet = Field(description="Classes of the test images: those of training, those held out, or all")
    names: ZeroShotSet = Field(description="Classes whose names can be chosen")
    top1: Fraction = Field(description="Zero-shot top-1")
    ci95: Interval = Field(description="Wilson 95% score interval of top1")
    n: Count = Field(description="Images")


class RecallAt(Record):
    """Recall at k."""

    k: Count = Field(description="Number of neighbours")
    recall: Fraction = Field(description="Share of queries with something relevant among the k nearest by cosine")
    ci95: Interval = Field(description="Wilson 95% score interval of recall, as if queries were independent")
    n: Count = Field(description="Queries")


class EmbeddingFigures(Record):
    """What embeddings of the test images are good for."""

    zero_shot: tuple[ZeroShot, ...] = Field(description="Zero-shot top-1 by images and names")
    image_to_image: tuple[RecallAt, ...] = Field(
        description="Another test image of the same class is among the k nearest ones; images alone in their class are "
        "no queries"
    )
    image_to_text: tuple[RecallAt, ...] = Field(description="The text of the image's class is among the k nearest ones")


class Embeddings(EmbeddingFigures):
    """Embeddings of a variant or a file, against those of its teacher."""

    width: Count = Field(description="Numbers per embedding")
    images: Count = Field(description="Test images that recall between images is of: all, or 5,000 evenly spaced ones")
    cosine: float | None = absent("Mean cosine between its embeddings of the test images and the teacher's")
    rank_correlation: float | None = absent(
        "Spearman's correlation with the teacher's similarities, over all pairs of at most 500 evenly spaced images"
    )
    teacher: EmbeddingFigures | None = absent("The same figures of the teacher")

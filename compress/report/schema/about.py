"""Schema of what `results.json` says of the run, its recipe, machine and images."""

from __future__ import annotations

from compress.report.schema.shapes import mapping, number, of, record, text, texts, whole

RUN = record(
    "The run itself",
    {
        "id": text("Name of its folder"),
        "started": text("Time of its start, ISO 8601, UTC"),
        "wall_s": number("Seconds from start to end"),
        "made": texts("Units (stages, and exports of a variant) that this run made"),
        "from_store": texts("Units that the store had from earlier runs"),
    },
)
RECIPE = record(
    "What was run",
    {
        "name": text("Name of the recipe"),
        "sha256": text("SHA-256 of the resolved recipe as JSON with sorted keys"),
        "resolved": of("object", "Every setting as it was used, by the schema that `compress-model schema` prints"),
    },
)
ENVIRONMENT = record(
    "The machine and its packages",
    {
        "compress": text("Version of this package"),
        "python": text("Version of Python"),
        "torch": text("Version of torch"),
        "packages": mapping("Versions by package", text("Version; null where it is not installed")),
        "platform": text("Operating system and C library"),
        "cpu": text("Name of the processor"),
        "threads": whole("Threads that latency was measured with"),
        "gpu": text("Name of the GPU that latency was measured on"),
        "energy_counter": text("The energy counter, or why there was none"),
    },
)
DATA = record(
    "The images",
    {
        "name": text("Name of the data set"),
        "classes": texts("Class names in the order of the labels"),
        "train": whole("Images with labels for training"),
        "unlabeled": whole("Images without labels for distillation"),
        "validation": whole("Images on which everything is chosen"),
        "test": whole("Images on which accuracy is measured, and nothing chosen"),
        "skipped": whole("Files that were no images"),
        "remarks": texts("What is to know of the split: classes that are absent, images that are in two of them"),
        "test_sha256": text("SHA-256 of shape, labels and at most 4,096 evenly spaced images of the test split"),
    },
)

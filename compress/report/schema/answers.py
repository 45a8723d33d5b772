"""Schema of what `results.json` says of the answers to the test images."""

from __future__ import annotations

from compress.report.schema.shapes import ends, number, record, rows, share, text, whole

_SAID = {"class": text("Most probable class"), "probability": share("Softmax of the stored logits there")}
CLASS_CHANGES = rows(
    "By reference and variant: what changed by class, on the test images",
    {
        "reference": text("The variant before"),
        "variant": text("The variant after"),
        "classes": rows(
            "Classes on which an image changed, the most changed ones first, at most 100",
            {
                "class": text("Name of the class"),
                "images": whole("Test images of it"),
                "reference_correct": whole("Of them the reference has right"),
                "variant_correct": whole("Of them the variant has right"),
                "only_reference": whole("Of them only the reference has right"),
                "only_variant": whole("Of them only the variant has right"),
                "difference": number("(only_reference - only_variant) / images; positive where the variant is worse"),
                "difference_ci95": ends("Tango's paired 95% score interval of it"),
            },
        ),
        "classes_left_out": whole("Classes that changed, beyond those"),
        "moves": rows(
            "The most frequent changes of an answer, at most 10",
            {
                "class": text("True class"),
                "reference_said": text("Class that the reference answers"),
                "variant_said": text("Class that the variant answers"),
                "images": whole("Test images on which this is so"),
            },
        ),
        "moves_left_out": whole("Kinds of change beyond those"),
    },
)
DISAGREEMENTS = record(
    "Test images on which the last taught variant and its teacher answer differently",
    {
        "teacher": text("Id of the teacher"),
        "student": text("Id of the variant"),
        "images": whole("Test images on which they differ"),
        "of": whole("Test images"),
        "rule": text("How the examples were chosen"),
        "examples": rows(
            "At most 12 of them",
            {
                "image": whole("Row in the test split"),
                "label": text("True class"),
                "teacher": record("What the teacher answers", _SAID),
                "student": record("What the variant answers", _SAID),
                "thumbnail": text("The image as a data URI, at most 96 pixels wide and high"),
            },
        ),
    },
)

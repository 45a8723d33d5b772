"""Schema of what `results.json` says of each variant."""

from __future__ import annotations

from compress.report.schema.shapes import ends, mapping, number, of, record, rows, share, text, texts, whole, yes

LATENCY_KEYS = {
    "runtime": text("Name of the runtime"),
    "precision": text("fp32, int8, or int8/int4 where linear layers have weights of 4 bits"),
    "batch": whole("Images of one run of the network"),
    "threads": whole("Threads of the runtime"),
    "resolution": whole("Side of the square image, pixels"),
    "p50_ms": number("Median time of one batch over the rounds, milliseconds"),
    "p99_ms": number("99th percentile of it, milliseconds"),
    "ratio_to_reference": number("Median of the recipe's first reference in this runtime and batch over p50_ms"),
    "ratio_ci95": ends("95% bootstrap interval of the ratio over rounds"),
}
_ENERGY_KEYS = {
    "value": number("Joules: of one image for inference, of all of it for training"),
    "method": text("Begins with 'measured' or 'estimated', and says by what"),
    "runtime": text("Runtime in which it is lowest"),
    "precision": text("fp32, int8, or int8/int4 where linear layers have weights of 4 bits"),
    "batch": whole("Images of one run of the network"),
    "threads": whole("Threads of the runtime"),
    "idle_w": number("Idle power that was subtracted, watts"),
    "seconds": number("How long was measured, seconds"),
    "images": whole("Images in that time"),
}
_ACCURACY = record(
    "Top-1 accuracy",
    {
        "top1": share("Share of images whose most probable class is the right one"),
        "correct": whole("Images answered rightly"),
        "n": whole("Images asked"),
        "ci95": ends("Wilson's 95% score interval of top1"),
        "split": text("Split that was asked: test"),
        "right": text("One bit an image of the split, 1 where it is right; hexadecimal, highest bit first"),
    },
)
_ARTIFACTS = rows(
    "Deployable files",
    {
        "runtime": text("Runtime that the file is for"),
        "format": text("Name of its format"),
        "path": text("Path inside the run's folder"),
        "bytes": whole("Size of the file or files"),
        "top1": share("Top-1 of the file in its own runtime, whole test split"),
        "ci95": ends("Wilson's 95% score interval of it"),
        "top1_agreement": share("Test images with PyTorch's most probable class"),
        "max_abs_diff": number("Largest absolute difference of its logits from PyTorch's"),
        "integer_convs": whole("Convolutions that really run in integer in that runtime"),
        "total_convs": whole("All convolutions of the file"),
        "integer_macs_share": share(
            "Multiply-accumulates of convolutions and linears that really run in integer there"
        ),
        "not_run": text("Why nothing is known of its answers: its runtime is not on this machine"),
    },
)
_INFERENCE = record(
    "What an answer costs",
    {
        "macs": whole("Multiply-accumulates of one image"),
        "bit_operations": whole("MACs x weight bits x activation bits, summed over layers, of one image"),
        "uncounted_operators": texts("Operators whose MACs are not known and not in macs"),
        "params": whole("Weights and biases"),
        "bytes": whole("Size of the stored weights"),
        "weight_bits": whole("Bits of a stored weight: the least that a quantized layer has"),
        "activation_bits": whole("Bits of an activation: the least that a quantized layer has"),
        "widths": rows(
            "Of a quantized variant: its layers by kind and width, as the network or file itself has them",
            {
                "kind": text("convolution, linear, or product of activations, which has no weight"),
                "weight_bits": whole("Bits of their stored weights; 32 is float"),
                "activation_bits": whole("Bits to which what they read is rounded; 32 is float"),
                "layers": whole("How many there are"),
                "macs_share": share("Multiply-accumulates of one image that are theirs"),
            },
        ),
        "quantized_convs": whole("Convolutions with integer weights"),
        "total_convs": whole("All convolutions"),
        "latency": rows("Times, measured in turns with all other variants", LATENCY_KEYS),
        "peak_memory_bytes": whole("Most resident memory of a process that answers the largest batch"),
        "peak_memory_basis": record(
            "What peak_memory_bytes was measured with",
            {"runtime": text("Name of the runtime"), "batch": whole("Images of one run of the network")},
        ),
        "energy_j": record(
            "Energy of one image in the runtime where it is lowest",
            {**_ENERGY_KEYS, "rows": rows("All that was measured", {**LATENCY_KEYS, **_ENERGY_KEYS})},
        ),
        "carbon": record(
            "Emissions of the energy",
            {
                "g_per_million_images": number("Grams of CO2 equivalent"),
                "g_per_kwh": number("Intensity of the grid, from the recipe"),
                "method": text("That of the energy"),
            },
        ),
    },
)
_TRAINING = record(
    "What making the variant has cost, its ancestors included",
    {
        "macs": whole("Multiply-accumulates, forward and backward"),
        "parts": rows(
            "What they were spent on", {"what": text("In words"), "macs": whole("Multiply-accumulates of it")}
        ),
        "wall_s": number("Seconds of the stage"),
        "energy_j": record("Energy of training", {"value": _ENERGY_KEYS["value"], "method": _ENERGY_KEYS["method"]}),
        "curve": rows(
            "Accuracy as training went on",
            {"macs": whole("Training MACs until then"), "top1": share("Top-1 on validation")},
        ),
        "selected_on": text("Split on which the epoch was chosen"),
        "diverged": rows(
            "Each time that the fit went back to its last good state with a lower rate",
            {"epoch": whole("Epoch in which the loss diverged"), "loss": {"description": "The loss then"}},
        ),
        "interrupted": whole("Least number of MACs lost to interruptions; not in macs"),
        "teacher_pretraining": record(
            "The teacher's own training; not in macs",
            {"macs": number("Multiply-accumulates; 0 without a teacher"), "source": text("Where that is from")},
        ),
    },
)
_SENSITIVITY = {
    "round": whole("Round of pruning"),
    "layers": texts("Layers that are pruned together"),
    "asked": share("Channels to remove"),
    "ratio": share("Channels that left"),
    "top1": share("Validation top-1 with only these pruned"),
    "loss": number("Validation top-1 lost by it"),
}
_PRUNING = record(
    "Of a pruned variant",
    {
        "widths": mapping(
            "[before, after] output channels by layer", of("array", "Channels", items={"type": "integer"})
        ),
        "sensitivity": rows("Each layer pruned alone", _SENSITIVITY),
        "latency_trials": rows(
            "Networks that were timed to find how many channels may remain",
            {
                "round": whole("Round of pruning"),
                "macs": whole("Multiply-accumulates of one image"),
                "p50_ms": number("Median time, milliseconds"),
                "share": number("Of the dense network's median time"),
                "share_ci95": ends("95% bootstrap interval of the share"),
            },
        ),
    },
)
_SPARSITY = record(
    "Of a variant with weights at zero",
    {
        "pattern": text("2:4 or unstructured"),
        "zeros": whole("Weights at zero"),
        "weights": whole("Weights of the layers counted"),
        "left_dense": texts("Layers left as they were"),
        "compressed_bytes": whole("Weights after zlib"),
        "parent_compressed_bytes": whole("The parent's weights after zlib"),
    },
)
_QUANTIZATION = record(
    "Of a quantized variant",
    {
        "method": text("What quantized it: torchao, nncf or onnxruntime"),
        "linear_weight_bits": whole("Bits that were asked for the weights of linear layers: 8 or 4"),
        "observer": text("How ranges were found; null where they were learnt in training"),
        "aware": yes("Trained with integers simulated in it"),
        "target": text("x86, or portable: everything signed and symmetric"),
        "calibration_images": whole("Images from which they were found"),
        "keep": texts("Layers in float"),
        "keep_found": texts("Those of them that were found for the accuracy"),
        "sensitivity": {"description": "How far each layer's quantization alone moves the logits"},
        "trials": {"description": "Networks that were measured on validation, with their layers in float"},
    },
)
_CHOICES = rows(
    "Of `runtimes: auto`: the fastest of the files that hold the accuracy, by batch",
    {
        "batch": whole("Images of one run of the network"),
        "runtime": text("The choice; null where no file holds the accuracy"),
        "tied": texts("Runtimes that are as fast"),
        "allowed_loss": share("Validation top-1 that a file may lose"),
        "candidates": rows(
            "All files that were compared",
            {
                "runtime": text("Name of the runtime"),
                "p50_ms": number("Median time of one batch, milliseconds"),
                "ratio_to_choice": number("Median of the choice over p50_ms, timed in turns"),
                "ratio_ci95": ends("95% bootstrap interval of it"),
                "validation_loss": number("Validation top-1 that it loses against PyTorch; a fraction"),
                "validation_agreement": share("Validation images with PyTorch's most probable class"),
                "holds": yes("Loses no more than is allowed"),
            },
        ),
        "left_out": mapping("Runtimes that could not take it, with the reason", text("The reason")),
    },
)
VARIANTS = rows(
    "One model a stage",
    {
        "id": text("Id of the stage that made it"),
        "kind": text("Kind of that stage"),
        "parent": text("Variant that it was made from"),
        "stage_key": text("Key of everything that determined it; its folder in the store"),
        "accuracy": _ACCURACY,
        "published": record(
            "What others published of it", {"top1": share("Top-1"), "source": text("Where that is from")}
        ),
        "inference": _INFERENCE,
        "training": _TRAINING,
        "artifacts": _ARTIFACTS,
        "pruning": _PRUNING,
        "sparsity": _SPARSITY,
        "quantization": _QUANTIZATION,
        "choices": _CHOICES,
        "control": record(
            "Of a shrink stage: against the pruned network that it controls",
            {
                "of": text("The pruned variant"),
                "gain": number("Top-1 of the pruned one less the control's, same test images; a fraction"),
                "gain_ci95": ends("Tango's paired 95% score interval of it"),
            },
        ),
    },
    ("id", "kind"),
)

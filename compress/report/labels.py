"""Labels of the kinds of stage."""

MADE_BY = {
    "teacher": "used as is",
    "train": "trained on labels",
    "distill": "distilled",
    "prune": "pruned",
    "sparsify": "weights set to zero",
    "shrink": "trained from scratch at the same reduced width",
    "quantize": "quantized",
}
"""How a stage makes a variant, for the lineage."""

HUB_TAGS = {
    "distill": "knowledge-distillation",
    "prune": "pruning",
    "sparsify": "sparsity",
    "quantize": "quantization",
}
"""Tags of the Hugging Face Hub, for the model card."""

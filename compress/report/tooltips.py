"""Tooltips of columns, by heading: unit, interval and basis of the figures."""

from __future__ import annotations

import re

_TOP1 = "Top-1 accuracy: share of test images whose most probable class is correct"
_PAIRED = "on the same test images, with Tango's paired 95% score interval"
_STUDENT = "95% interval by Student's t over processes, or over batches of rounds of a single one"
_LOG2 = "log2 of the reference's cost over the variant's; +1 is half the cost"

TOOLTIPS: tuple[tuple[str, str], ...] = (
    (r"top-1 \(95%.*\)", f"{_TOP1}; Wilson's 95% score interval"),
    (r"ECE \(95%.*\)", "Expected calibration error, debiased, with its bootstrap interval; 0 is perfect"),
    (r"confidence over accuracy", "Mean confidence less top-1, in points, with its 95% interval"),
    (r"NLL", "Mean negative log likelihood of the true class, nats; lower is better"),
    (r"Brier score", "Mean squared error of the probabilities, summed over the classes, 0 to 2; lower is better"),
    (
        r"accepted at the threshold",
        "Share of test images of at least this confidence, and how many of them are correct",
    ),
    (
        r"threshold for equal precision",
        "Lowest confidence at which the precision on validation is the reference's, and what it accepts on test",
    ),
    (
        r"balanced accuracy \(95%.*\)",
        "Mean recall of the classes, with the interval from Wilson's of each",
    ),
    (r"worst class \(95%.*\)", "Recall of the class where it is lowest, with Wilson's 95% score interval"),
    (r"shown to have gained", "Classes that are shown to have gained, by the same test"),
    (r"top-5 \(95%.*\)", "Share of test images whose class is among the 5 most probable; Wilson's 95% score interval"),
    (
        r"zero-shot.*",
        "Share of test images whose nearest text embedding is that of their class; Wilson's 95% score interval",
    ),
    (r"image to image", "Share of test images with another one of their class among the k nearest by cosine"),
    (r"image to text", "Share of test images whose class is among the k nearest text embeddings"),
    (r"cosine to teacher", "Mean cosine between its embeddings and the teacher's, of the same test images"),
    (r"rank correlation", "Spearman's, of its similarities of pairs of test images with the teacher's"),
    (r"uncorrupted", f"{_TOP1}; on the stored images, before they are corrupted"),
    (r"corrupted, mean", "Top-1 accuracy on corrupted test images, mean over corruptions and severities"),
    (
        r"mean corruption error \(95%.*\)",
        "Errors relative to the reference's, mean over the corruptions, with its 95% interval; lower is better",
    ),
    (
        r"most lost beyond the uncorrupted loss",
        "Corruption with the largest loss against the reference, mean of the severities, less the loss without it",
    ),
    (
        r"AUROC by softmax.*",
        "Share of pairs in which the test image has the higher maximum softmax probability",
    ),
    (r"AUROC by energy.*", "Share of pairs in which the test image has the higher log-sum-exp of the logits"),
    (r"lost by (softmax|energy).*", "AUROC of the reference minus this one's, on the same images; 95% by DeLong"),
    (r"top-1|its top-1", f"{_TOP1}, without interval"),
    (r"published/.*", "As published at the source in the last column; not measured here"),
    (r"published top-1", "Top-1 accuracy that the recipe quotes from others; not measured here"),
    (r"MACs", "Multiply-accumulates, counted from the shapes of the layers; per image unless another basis is given"),
    (r"worth/(doublings, MACs|bit operations|latency|energy)", f"Doublings: {_LOG2}"),
    (r"bit operations", "MACs × weight bits × activation bits, per image"),
    (r"parameters", "Number of weights and biases, counted"),
    (r"size", "Bytes: of the weights for a variant, of the file or files for an artifact; k, M, G are powers of 1,000"),
    (r"weight bits", "Bits of a stored weight; activations in brackets where their width differs"),
    (r"activation bits", "Bits to which a layer's inputs are rounded; 32 is float"),
    (r"layers", "Convolutions, linears and products of activations of this kind and width, counted"),
    (r"share of the MACs", "Share of the multiply-accumulates of one image, counted from the shapes of the layers"),
    (r"quantized convolutions", "Convolutions with integer weights, of all convolutions, counted in the network"),
    (r"training MACs", "Multiply-accumulates spent to make the variant, counted, those of its ancestors included"),
    (r"of which teacher", "Share of the training MACs that were the teacher's forward passes"),
    (r"peak memory", "Peak resident memory of a separate process during inference, bytes, measured once"),
    (r"energy per image", "Joules per image, measured or estimated as each cell states; without interval"),
    (
        r"CO2e per million images",
        "Grams of CO2 equivalent: the energy times the grid's carbon intensity from the recipe",
    ),
    (r"agreement with PyTorch", "Share of test images with PyTorch's prediction, in this file's own runtime"),
    (r"largest logit difference", "Largest absolute difference from PyTorch's logits on the test images"),
    (
        r"MACs in integer",
        "Share of the MACs of convolutions and linears that the file's runtime executes in integer",
    ),
    (r"median|99th percentile", "Time of one batch over the interleaved rounds, milliseconds"),
    (r"speedup \(95%.*\)", f"Median of the reference over the variant's, in the same rounds; {_STUDENT}"),
    (r"batch", "Batch size, images"),
    (r"threads", "Threads of the runtime"),
    (r"resolution", "Side of the square input, pixels"),
    (r"granted", "Granted: the paired 95% interval shows no loss of accuracy beyond the tolerance"),
    (
        r"accuracy lost.*",
        "Points of accuracy (`worth.metric`, top-1 by default) below the reference, with its paired 95% interval",
    ),
    (r"on validation", "Top-1 on the validation images, on which every choice was made"),
    (r"processes", "Fresh processes that the file was timed in; the median of each where they differ"),
    (r"autocorrelation", "Of successive rounds: near 0, rounds are independent; near 1, the machine drifts"),
    (r"errors", "Increase of the error rate: 1 point is +3% at 67% top-1 and +100% at 99%"),
    (r"exact upper bound", "Upper bound of the loss in points of top-1, without approximation, 97.5% one-sided"),
    (r"months of growth", "Months in which training compute grows by these doublings, by the trend that is named"),
    (r"months of gap", "Months of the gap between training compute and hardware, by the trend that is named"),
    (r"break-even", "Images after which the saved MACs have repaid the MACs of making the variant"),
    (r"extra training MACs", "Multiply-accumulates of training that the variant took on top of the reference"),
    (r"after .* queries|limit", "MACs of the reference over the variant's, training and inference together; computed"),
    (r"at .* inference", "Cost ratio where inference has this share of the lifetime cost; computed"),
    (r"ceiling at that share", "The same for a variant whose inference costs nothing; computed"),
    (r"share", "Share of the variant's training MACs"),
    (r"target top-1", "Top-1 on the validation images, and whose it is"),
    (r".*'s compute", "Training MACs until that validation top-1 was reached, interpolated; one run"),
    (
        r"doublings \(95%.*\)",
        "log2 of the baseline's training MACs to that validation top-1 over the variant's, with its bootstrap interval "
        "over the validation images",
    ),
    (r"by the measured points", "Doublings between the points of both curves before and at the target"),
    (r"doublings", "log2 of the ratio"),
    (r"MACs added", "MACs of training the teacher that are added to the variant's compute"),
    (
        r"over its FP32 file",
        "Median time of the variant's float network in the same runtime and batch size over this file's",
    ),
    (r"time", "Time of a million images, one batch after the other, from the median latency"),
    (r"energy", "Energy of that time, measured or estimated as each cell states"),
    (r"price", "Price of that time, at the hourly price of the deployment profile"),
    (r"images", "Test images"),
    (r"correct before|correct now", "Test images of this class that were classified correctly"),
    (r"lost|gained", "Test images that only the reference, or only the variant, classifies correctly"),
    (r"change \(95%.*\)", f"Points of top-1 within the class, {_PAIRED}"),
    (r".* against control \(95%.*\)", f"Points of top-1, {_PAIRED}"),
    (r"weights at zero", "Share of the weights that are zero, counted"),
    (r".*size after zlib", "Bytes of the weights after zlib"),
    (
        r"share of the dense latency.*",
        f"Median over the dense network's, in the same rounds; {_STUDENT}",
    ),
    (
        r".* of its channels",
        "Points of validation top-1 lost when only this layer is pruned; channels removed in brackets",
    ),
    (r"calibration images", "Images of the calibration set"),
    (r"networks tried", "Quantized networks that were evaluated on validation"),
)


def tooltip(table: str, heading: str) -> str:
    """Describe the figures below a heading in one line; empty for names and for headings that need no description.

    What precedes the first dash of the table's key may give a heading another meaning.
    """
    names = f"{table.partition('-')[0]}/{heading}", heading
    return next((text for name in names for pattern, text in TOOLTIPS if re.fullmatch(pattern, name)), "")

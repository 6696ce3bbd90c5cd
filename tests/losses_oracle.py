"""Naive float64 loops for every loss. They share nothing with the code: no tensor operator, not even an argmax.

Arrays come in as NumPy; a pixel is visited once for each class, and every sum is a Python float.
"""

from __future__ import annotations

import itertools
import math

import numpy as np


def softmax(scores):
    top = max(scores)
    exps = [math.exp(s - top) for s in scores]
    return [e / math.fsum(exps) for e in exps]


def log_softmax(scores):
    top = max(scores)
    return [s - top - math.log(math.fsum(math.exp(t - top) for t in scores)) for s in scores]


def log_sigmoid(x):
    return -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))


def pixels_of(logits, target, mode, ignore_index, pixel_weights):
    """Yield (image, place, weight, scores of the pixel, its share of each class, ignored classes)."""
    batch, classes, *spatial = logits.shape
    for b in range(batch):
        for place in itertools.product(*map(range, spatial)):
            weight = 1.0 if pixel_weights is None else float(pixel_weights[(b, *place)])
            scores = [float(logits[(b, c, *place)]) for c in range(classes)]
            if mode == "multiclass" and target.dtype.kind != "f":
                label = int(target[(b, *place)])
                share = [float(c == label) for c in range(classes)]
                gone = [label == ignore_index] * classes
            else:
                values = [target[(b, c, *place)] for c in range(classes)]
                gone = [target.dtype.kind != "f" and int(v) == ignore_index for v in values]
                share = [0.0 if g else float(v) for g, v in zip(gone, values, strict=True)]
            yield b, place, weight, scores, share, gone


def pixel_loss(
    logits, target, *, mode="multiclass", ignore_index=255, class_weights=None, pixel_weights=None, reduction="mean",
    gamma=0.0, label_smoothing=0.0, alpha=None, pos_weight=None,
):  # fmt: skip
    """Cross-entropy (gamma 0) and focal, of all modes. class_weights: [C]; for binary [of label 0, of label 1]."""
    classes = logits.shape[1]
    values, weights = np.zeros(logits.shape), []
    for b, place, weight, scores, share, gone in pixels_of(logits, target, mode, ignore_index, pixel_weights):
        if mode == "multiclass":
            if gone[0] or weight == 0:
                continue
            of_class = [1.0] * classes if class_weights is None else [float(w) for w in class_weights]
            factor = [1.0] * classes if alpha is None else alpha
            weights.append(weight * math.fsum(s * w for s, w in zip(share, of_class, strict=True)))
            for c in range(classes):
                logp = log_softmax(scores)[c]
                mixed = share[c] * (1 - label_smoothing) + label_smoothing / classes
                term = (1 - math.exp(logp)) ** gamma * -logp
                values[(b, c, *place)] = weight * of_class[c] * factor[c] * mixed * term if mixed else 0.0
            continue
        for c in range(classes):
            if gone[c] or weight == 0:
                continue
            if mode == "binary":
                no, yes = (1.0, 1.0) if class_weights is None else (float(w) for w in class_weights)
            else:
                no = yes = 1.0 if class_weights is None else float(class_weights[c])
            weights.append(weight * (share[c] * yes + (1 - share[c]) * no))
            pull = 1.0 if pos_weight is None else float(np.broadcast_to(pos_weight, (classes,))[c])
            log_yes, log_no = log_sigmoid(scores[c]), log_sigmoid(-scores[c])
            up = yes * pull * share[c] * (1 - math.exp(log_yes)) ** gamma * -log_yes
            down = no * (1 - share[c]) * (1 - math.exp(log_no)) ** gamma * -log_no
            if alpha is not None:
                up, down = up * alpha, down * (1 - alpha)
            values[(b, c, *place)] = weight * (up + down)
    if reduction == "none":
        return values if mode == "multilabel" else values.sum(1)
    total = math.fsum(values.ravel().tolist())
    if reduction == "sum":
        return total
    return total / math.fsum(weights) if math.fsum(weights) else 0.0


def region_sums(logits, target, *, mode, ignore_index, pixel_weights, power, scope):
    """intersection, prediction, truth, count: each a dictionary of (image, class)."""
    classes = logits.shape[1]
    rows = range(1 if scope == "batch" else logits.shape[0])
    sums = [{(b, c): 0.0 for b in rows for c in range(classes)} for _ in range(4)]
    for b, _, weight, scores, share, gone in pixels_of(logits, target, mode, ignore_index, pixel_weights):
        probs = softmax(scores) if mode == "multiclass" else [math.exp(log_sigmoid(s)) for s in scores]
        for c in range(classes):
            if gone[c]:
                continue
            key = (0 if scope == "batch" else b, c)
            for s, value in zip(sums, (probs[c] * share[c], probs[c] ** power, share[c], 1.0), strict=True):
                s[key] += weight * value
    return sums


def region_loss(
    formula, logits, target, *, mode="multiclass", ignore_index=255, class_weights=None, pixel_weights=None,
    reduction="mean", power=1, scope="image", absent="skip", classes=None,
):  # fmt: skip
    """Any formula(intersection, prediction, truth) of one image and class."""
    sums = region_sums(
        logits, target, mode=mode, ignore_index=ignore_index, pixel_weights=pixel_weights, power=power, scope=scope
    )
    chosen = list(range(logits.shape[1])) if classes is None else list(classes)
    images = 1 if scope == "batch" else logits.shape[0]
    table, weights = np.zeros((images, len(chosen))), []
    for b in range(images):
        for k, c in enumerate(chosen):
            inter, pred, truth, count = (s[b, c] for s in sums)
            if count == 0 or (truth == 0 and absent == "skip"):
                continue
            weight = 1.0
            if class_weights is not None:
                weight = float(class_weights[1] if mode == "binary" else class_weights[c])
            value = float(absent == "one") if truth == 0 else formula(inter, pred, truth)
            table[b, k] = weight * value
            weights.append(weight)
    if reduction == "none":
        return table
    total = math.fsum(table.ravel().tolist())
    if reduction == "sum":
        return total
    return total / math.fsum(weights) if math.fsum(weights) else 0.0


def dice_formula(smooth=0.0, eps=1e-7, log=False):
    def formula(inter, pred, truth):
        score = (2 * inter + smooth) / max(pred + truth + smooth, eps)
        return -math.log(max(score, eps)) if log else 1 - score

    return formula

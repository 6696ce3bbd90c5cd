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
            for s, value in zip(sums, (probs[c] * share[c], probs[c] ** power, share[c] ** power, 1.0), strict=True):
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


def jaccard_formula(smooth=0.0, eps=1e-7, log=False):
    def formula(inter, pred, truth):
        score = (inter + smooth) / max(pred + truth - inter + smooth, eps)
        return -math.log(max(score, eps)) if log else 1 - score

    return formula


def tversky_formula(alpha=0.5, beta=0.5, gamma=1.0, smooth=0.0, eps=1e-7):
    def formula(inter, pred, truth):
        below = inter + alpha * (pred - inter) + beta * (truth - inter) + smooth
        loss = 1 - (inter + smooth) / max(below, eps)
        return loss if gamma == 1 else max(loss, 1e-6) ** gamma

    return formula


def generalized_dice(logits, target, *, mode, ignore_index, pixel_weights, scope, smooth=0.0):
    """One number for each image: weights 1 / T**2 for the classes that are there."""
    inter, pred, truth, _ = region_sums(
        logits, target, mode=mode, ignore_index=ignore_index, pixel_weights=pixel_weights, power=1, scope=scope
    )
    values = []
    for b in range(1 if scope == "batch" else logits.shape[0]):
        there = [c for c in range(logits.shape[1]) if truth[b, c] > 0]
        above = 2 * math.fsum(inter[b, c] / truth[b, c] ** 2 for c in there) + smooth
        below = math.fsum((pred[b, c] + truth[b, c]) / truth[b, c] ** 2 for c in there) + smooth
        if there:
            values.append(1 - above / below)
    return math.fsum(values) / len(values) if values else 0.0


def jaccard_of_set(missed_truth, extra, truth):
    """The Jaccard loss when so much of the truth is missed, and so much else taken in."""
    union = truth + extra
    return 1 - (truth - missed_truth) / union if union else 0.0


def lovasz(logits, target, *, mode="multiclass", ignore_index=255, class_weights=None, pixel_weights=None,
           reduction="mean", scope="batch", classes="present"):  # fmt: skip
    """Sort the errors of each class, add pixel by pixel, and sum error x growth of the Jaccard loss."""
    number = logits.shape[1]
    rows = 1 if scope == "batch" else logits.shape[0]
    members = {(b, c): [] for b in range(rows) for c in range(number)}
    for b, _, weight, scores, share, gone in pixels_of(logits, target, mode, ignore_index, pixel_weights):
        probs = softmax(scores) if mode == "multiclass" else [math.exp(log_sigmoid(s)) for s in scores]
        for c in range(number):
            if not gone[c] and weight:
                members[0 if scope == "batch" else b, c].append((abs(share[c] - probs[c]), share[c], weight))
    chosen = list(range(number)) if isinstance(classes, str) else list(classes)
    table, weights = np.zeros((rows, len(chosen))), []
    for b in range(rows):
        for k, c in enumerate(chosen):
            truth = math.fsum(w * t for _, t, w in members[b, c])
            if not members[b, c] or (classes == "present" and truth == 0):
                continue
            loss = missed = extra = before = 0.0
            for error, is_truth, weight in sorted(members[b, c], reverse=True):
                missed, extra = missed + weight * is_truth, extra + weight * (1 - is_truth)
                now = jaccard_of_set(missed, extra, truth)
                loss, before = loss + error * (now - before), now
            weight = 1.0
            if class_weights is not None:
                weight = float(class_weights[1] if mode == "binary" else class_weights[c])
            table[b, k] = weight * loss
            weights.append(weight)
    if reduction == "none":
        return table
    total = math.fsum(table.ravel().tolist())
    return total if reduction == "sum" else total / math.fsum(weights) if math.fsum(weights) else 0.0


def ohem(logits, target, *, keep, scope="batch", **options):
    """Mean of the `keep(n)` largest losses of the n pixels that count, over the batch or in each image."""
    losses = pixel_loss(logits, target, **{**options, "reduction": "none"})
    weights = options.get("pixel_weights")
    counts = target.reshape(losses.shape) != options.get("ignore_index", 255)
    if weights is not None:
        counts &= weights != 0
    groups = [slice(None)] if scope == "batch" else list(range(len(losses)))
    total = above = 0.0
    for group in groups:
        values = losses[group][counts[group]].tolist()
        share = (np.ones(losses.shape) if weights is None else weights)[group][counts[group]].tolist()
        order = sorted(range(len(values)), key=lambda i: -values[i])[: keep(len(values))]
        total += math.fsum(values[i] for i in order)
        above += math.fsum(share[i] for i in order)
    return total / above if above else 0.0


def window(place, spatial, reach):
    """The places of a cube around one that are in the image."""
    ranges = [range(max(0, p - reach), min(n, p + reach + 1)) for p, n in zip(place, spatial, strict=True)]
    return itertools.product(*ranges)


def soft_skeleton(image, counts, iterations):
    """Of one class: [*spatial] in [0, 1]; places that do not count are as if outside of the image."""
    places = [p for p in itertools.product(*map(range, image.shape)) if counts[p]]

    def erode(x):
        out = np.zeros_like(x)
        for p in places:
            cross = [q for q in window(p, x.shape, 1) if sum(a != b for a, b in zip(p, q, strict=True)) <= 1]
            out[p] = min(x[q] for q in cross if counts[q])
        return out

    def opening_removes(x):
        small = erode(x)
        out = np.zeros_like(x)
        for p in places:
            out[p] = max(0.0, x[p] - max(small[q] for q in window(p, x.shape, 1) if counts[q]))
        return out

    skeleton = opening_removes(image)
    for _ in range(iterations):
        image = erode(image)
        rest = opening_removes(image)
        skeleton = skeleton + np.maximum(rest - skeleton * rest, 0)
    return skeleton


def cl_dice(logits, target, *, ignore_index=255, pixel_weights=None, iterations=2, smooth=1.0):
    """Multiclass, one loss for each image and class that is there, averaged."""
    values = []
    for b in range(logits.shape[0]):
        weight = np.ones(target.shape[1:]) if pixel_weights is None else pixel_weights[b]
        counts = (target[b] != ignore_index) & (weight > 0)
        p = np.zeros(logits.shape[1:])
        for place in itertools.product(*map(range, target.shape[1:])):
            if counts[place]:
                p[(slice(None), *place)] = softmax([float(s) for s in logits[(b, slice(None), *place)]])
        for c in range(logits.shape[1]):
            truth = ((target[b] == c) & counts).astype(float)
            if not truth.sum():
                continue
            of_p, of_truth = (soft_skeleton(x, counts, iterations) for x in (p[c], truth))
            w = weight * counts
            precision = ((of_p * truth * w).sum() + smooth) / ((of_p * w).sum() + smooth)
            sensitivity = ((of_truth * p[c] * w).sum() + smooth) / ((of_truth * w).sum() + smooth)
            values.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    return math.fsum(values) / len(values) if values else 0.0

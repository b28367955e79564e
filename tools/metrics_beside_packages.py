"""What the packages that metrics are taken from say of the inputs of the tests in `metrics/src`: the check values there.

    python3 -m venv venv && venv/bin/pip install numpy scikit-learn sacrebleu==2.6.0 nltk
    venv/bin/pip install --no-deps prdc==0.2 mauve-text==0.4.0 vendi-score==0.0.3
    venv/bin/python tools/metrics_beside_packages.py
"""

import sys
import types

import numpy as np
from sklearn.decomposition import PCA

# mauve-text imports these to make features and clusters, which are not compared here.
for name in ["faiss", "torch"]:
    sys.modules.setdefault(name, types.ModuleType(name))

from mauve.compute_mauve import (
    compute_area_under_curve,
    get_divergence_curve_for_multinomials,
    get_fronter_integral,
)
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from prdc import compute_prdc
from sacrebleu.metrics import BLEU
from vendi_score import vendi

CATS = ["the cat sat on the mat", "the cat ate the rat", "a dog sat"]


def points(seed, scale, offset):
    """`metrics/src/manifold.rs`: 60 points in six dimensions of a linear congruential generator."""
    state, values = seed, []
    for place in range(360):
        state = (1103515245 * state + 12345) % 2**31
        values.append((state / 2**31 - 0.5) * scale[place % 6] + offset[place % 6])
    return np.array(values).reshape(60, 6)


def features(real, fake):
    """Rows of length 1, then the fewest principal components of both together that explain 0.9."""
    union = np.concatenate([fake, real])
    union /= np.linalg.norm(union, axis=1, keepdims=True)
    pca = PCA().fit(union)
    kept = int(np.argmax(np.cumsum(pca.explained_variance_ratio_) >= 0.9)) + 1
    projected = pca.transform(union)[:, :kept]
    return projected[len(fake):], projected[: len(fake)]


def mauve(p, q):
    curve = get_divergence_curve_for_multinomials(p, q, np.linspace(1e-6, 1 - 1e-6, 25), 5)
    x, y = curve.T
    # As `compute_mauve` has it.
    by_x, by_y = np.argsort(x), np.argsort(y)
    return (compute_area_under_curve(x[by_x], y[by_x]) + compute_area_under_curve(y[by_y], x[by_y])) / 2


def best_f(p, q, b):
    """`max F_b` over the 999 angles of `pr-4-llm`."""
    slopes = np.tan(np.arange(1, 1000) * np.pi / 2000)
    alpha = np.minimum(slopes[:, None] * p, q).sum(1)
    beta = alpha / slopes
    return np.max((1 + b * b) * alpha * beta / (b * b * alpha + beta + 1e-10))


def main():
    real = points(31, [1, 1, 1, 1, 0.3, 0.1], [1, 0.5, 0, 0, 0, 0])
    fake = points(1031, [1.2, 0.6, 1, 0.4, 0.6, 0.1], [1.1, 0.2, 0.3, 0, 0, 0])
    real, fake = features(real, fake)
    for k in [3, 4, 5]:
        found = compute_prdc(real, fake, nearest_k=k)
        print(f"prdc k = {k}", {key: round(float(value), 9) for key, value in found.items()})
    # The same features as shares of eight clusters: which of the first eight references is the nearest.
    nearest = lambda rows: np.argmin(((rows[:, None] - real[None, :8]) ** 2).sum(2), axis=1)
    p, q = (np.bincount(nearest(rows), minlength=8) for rows in (real, fake))
    print("counts", p.tolist(), q.tolist())
    for name, added in [("mauve", 0), ("mauve_star", 0.5)]:
        a, b = (p + added) / (p + added).sum(), (q + added) / (q + added).sum()
        print(name, round(float(mauve(a, b)), 9), "frontier", round(float(get_fronter_integral(a, b)), 9))
    print("F on a grid", {b: round(float(best_f(p / p.sum(), q / q.sum(), b)), 9) for b in [8, 1, 1 / 8]})
    K = np.array([[1, 0.8, 0], [0.8, 1, 0.1], [0, 0.1, 1]])
    print("vendi", {q: round(float(vendi.score_K(K, q=q)), 9) for q in [0.5, 1, 2, "inf"]})
    others = lambda own: [text for index, text in enumerate(CATS) if index != own]
    words = [text.split() for text in CATS]
    nltk = [
        sentence_bleu([text.split() for text in others(own)], words[own], smoothing_function=SmoothingFunction().method1)
        for own in range(3)
    ]
    print("nltk", np.round(nltk, 9).tolist())
    bleu = BLEU(lowercase=True, tokenize="13a", smooth_method="exp", effective_order=True)
    print("sacrebleu", [round(bleu.sentence_score(CATS[own], others(own)).score, 9) for own in range(3)])


main()

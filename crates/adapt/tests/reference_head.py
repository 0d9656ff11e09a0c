"""Writes fixtures/head.json: a small data set and scikit-learn's LogisticRegression on it.

    python tests/reference_head.py > tests/fixtures/head.json

Needs numpy and scikit-learn.
"""
import json
import numpy as np
from sklearn.linear_model import LogisticRegression

rng = np.random.default_rng(7)
classes, dimensions, n = 5, 12, 240
centres = rng.normal(size=(classes, dimensions))
labels = rng.integers(0, classes, n)
x = centres[labels] + 1.4 * rng.normal(size=(n, dimensions))
x = np.round(x / np.linalg.norm(x, axis=1, keepdims=True), 4)
fits = []
for c in (0.5, 4.0, 32.0):
    model = LogisticRegression(C=c, tol=1e-10, max_iter=10_000).fit(x, labels)
    p = model.predict_proba(x)
    fits.append({
        "c": c,
        "weights": np.round(model.coef_, 7).ravel().tolist(),
        "bias": np.round(model.intercept_, 7).tolist(),
        "loss": float(-np.log(p[np.arange(n), labels]).mean()),
    })
print(json.dumps({"classes": classes, "dimensions": dimensions, "x": x.ravel().tolist(), "labels": labels.tolist(), "fits": fits}))

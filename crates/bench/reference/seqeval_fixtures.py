"""Writes crates/adapt/tests/seqeval.json: what seqeval makes of random tags. Needs `pip install seqeval`."""

import json
import random
from pathlib import Path

from seqeval.metrics import f1_score, precision_score, recall_score

random.seed(7)
TAGS = ["O", "O", "B-a", "I-a", "B-b", "I-b", "I-c"]
cases = []
for _ in range(60):
    expected = [[random.choice(TAGS) for _ in range(random.randint(1, 9))] for _ in range(4)]
    given = [[t if random.random() < 0.8 else random.choice(TAGS) for t in tags] for tags in expected]
    scores = [score(expected, given, zero_division=0) for score in (precision_score, recall_score, f1_score)]
    precision, recall, f1 = map(float, scores)
    cases.append({"expected": expected, "given": given, "precision": precision, "recall": recall, "f1": f1})
target = Path(__file__).parents[2] / "adapt/tests/seqeval.json"
target.write_text(json.dumps(cases) + "\n")

"""Our bounds for means of bounded values against those of `confseq`, the package of the method's authors."""

import json
import os
import pathlib
import subprocess
import sys
import unittest.mock

import numpy as np
import pytest

np.float_ = np.float64  # the package was written for numpy 1
for plots in ("matplotlib", "matplotlib.pyplot"):
    sys.modules.setdefault(plots, unittest.mock.MagicMock())  # it imports them and needs them for figures only

from confseq import betting, predmix  # noqa: E402
from confseq.betting_strategies import lambda_predmix_eb  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOLERANCE = 1e-9


def ours(requests):
    """Answers of `understudy-bench reference`."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = target / "release" / "understudy-bench"
    assert binary.exists(), f"{binary} is missing: cargo build --release --package understudy-bench"
    lines = "\n".join(json.dumps({"function": name, "arguments": arguments}) for name, arguments in requests)
    done = subprocess.run([binary, "reference"], input=lines + "\n", capture_output=True, text=True, check=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == len(requests) and all("value" in reply for reply in replies), done.stdout[:500]
    return [np.array(reply["value"], dtype=float) for reply in replies]


def samples():
    random = np.random.default_rng(20240214)
    for n in (1, 2, 17, 200, 600):
        yield "uniform", random.random(n)
        yield "rare", (random.random(n) < 0.03).astype(float)
        yield "graded", np.where(random.random(n) < 0.1, random.random(n), 0.0)
        yield "peaked", random.beta(10, 30, n)
        yield "constant", np.full(n, 0.25)
    yield "all one", np.ones(50)
    yield "all zero", np.zeros(50)


def pairs(bounds):
    return np.column_stack(bounds)


FUNCTIONS = {
    "predmix_stakes": lambda x, alpha, fixed: lambda_predmix_eb(x, alpha=alpha, fixed_n=len(x) if fixed else None),
    "predmix_bernstein_lower": lambda x, alpha, fixed: predmix.predmix_empbern_lower_cs(
        x, alpha=alpha, fixed_n=len(x) if fixed else None
    ),
    "predmix_bernstein": lambda x, alpha, fixed: pairs(
        predmix.predmix_empbern_twosided_cs(x, alpha=alpha, fixed_n=len(x) if fixed else None)
    ),
    "predmix_hoeffding": lambda x, alpha, fixed: (
        np.array([predmix.predmix_hoeffding_ci(x, alpha=alpha)])
        if fixed
        else pairs(predmix.predmix_hoeffding_cs(x, alpha=alpha))
    ),
    "hedged_sequence": lambda x, alpha, fixed: pairs(betting.betting_cs(x, alpha=alpha, breaks=200)),
    "hedged_interval": lambda x, alpha, fixed: np.array([betting.betting_ci(x, alpha=alpha, breaks=200)]),
    "hedged_refutation": lambda x, alpha, fixed: np.log(
        max(
            1.0,
            betting.betting_mart(
                x,
                0.3,
                alpha=alpha,
                theta=0,
                lambdas_fn_negative=lambda x, m: lambda_predmix_eb(x, alpha=alpha, fixed_n=len(x)),
                trunc_scale=0.9,
            ).max(),
        )
    ),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bounds_equal_confseqs(function):
    cases = [(x, alpha, fixed) for _, x in samples() for alpha in (0.05, 0.2) for fixed in (False, True)]
    replies = ours([
        (function, {"x": list(x), "alpha": alpha, "fixed": fixed, "breaks": 200, "mean": 0.3}) for x, alpha, fixed in cases
    ])
    worst = 0.0
    for (x, alpha, fixed), reply in zip(cases, replies):
        theirs = FUNCTIONS[function](x, alpha, fixed)
        reply = reply[-1:] if function == "predmix_hoeffding" and fixed else reply
        assert np.shape(reply) == np.shape(theirs)
        worst = max(worst, np.max(np.abs(reply - theirs)))
    print(f"{function}: {len(cases)} samples, largest difference {worst:.1e}")
    assert worst <= TOLERANCE

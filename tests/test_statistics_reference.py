"""Our tests and intervals against scipy, and confident learning against cleanlab."""

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from reference_figures import compare, ours
from scipy import optimize, stats

SCIPY = 1e-10


def test_shares_and_mcnemar_equal_scipy():
    rng = np.random.default_rng(1)
    shares = [(int(rng.integers(0, n + 1)), int(n), level) for n in (1, 7, 100, 5000) for level in (0.9, 0.95, 0.999) for _ in range(5)]
    shares += [(0, 50, 0.95), (50, 50, 0.95)]
    for method, name in (("exact", "clopper_pearson"), ("wilson", "wilson")):
        found = ours([(name, {"k": k, "n": n, "level": level}) for k, n, level in shares])
        for (k, n, level), mine in zip(shares, found):
            theirs = stats.binomtest(k, n).proportion_ci(level, method=method)
            compare(f"scipy binomtest {method} interval", mine["low"], theirs.low, SCIPY)
            compare(f"scipy binomtest {method} interval", mine["high"], theirs.high, SCIPY)
    counts = [(a, b) for a in (0, 1, 5, 30, 400) for b in (0, 2, 5, 41, 380)]
    found = ours([("mcnemar", {"only_a": a, "only_b": b}) for a, b in counts])
    for (a, b), mine in zip(counts, found):
        compare("scipy binomtest as McNemar's", mine, stats.binomtest(a, a + b).pvalue if a + b else 1.0, SCIPY)


def test_sign_flips_equal_scipys_permutation_test():
    rng = np.random.default_rng(2)
    exact = [np.round(rng.normal(0.3, 1, n), 2) for n in (2, 5, 9, 12)]
    exact += [np.array([1.0, 1, -1, 0, 0, 1]), np.array([0.1, 0.2, 0.3, -0.3, -0.1]), np.zeros(4)]
    large = rng.normal(0.15, 1, 200)
    found = ours([("sign_flip", x.tolist()) for x in [*exact, large]])

    def theirs(x, resamples):
        return stats.permutation_test((x,), np.sum, permutation_type="samples", n_resamples=resamples, rng=1).pvalue

    for x, mine in zip(exact, found):
        assert mine["exact"]
        compare("scipy permutation_test, exact sign flips", mine["p"], theirs(x, np.inf), SCIPY)
    assert not found[-1]["exact"]
    # Two Monte Carlo estimates of one p-value; each has a standard deviation below .001.
    assert abs(found[-1]["p"] - theirs(large, 50_000)) < 0.006


def test_bca_equals_scipy_on_the_same_draws():
    rng = np.random.default_rng(3)
    for values in (rng.exponential(1, 40), (rng.random(300) < 0.05).astype(float), rng.normal(0, 1, 15)):
        theirs = stats.bootstrap((values,), np.mean, n_resamples=3000, method="BCa", rng=5)
        draws = theirs.bootstrap_distribution
        [mine] = ours([("bca_of_draws", {"values": values.tolist(), "draws": draws.tolist(), "level": 0.95})])
        compare("scipy bootstrap, BCa", mine["low"], theirs.confidence_interval.low, SCIPY)
        compare("scipy bootstrap, BCa", mine["high"], theirs.confidence_interval.high, SCIPY)


def test_multiplicity_equals_scipy_and_the_definition():
    rng = np.random.default_rng(4)
    sets = [rng.random(n) ** 3 for n in (1, 2, 10, 200)] + [np.array([0.01, 0.01, 0.5, 1.0, 0.0])]
    for p, holm, bh in zip(sets, ours([("holm", p.tolist()) for p in sets]), ours([("benjamini_hochberg", p.tolist()) for p in sets])):
        for a, b in zip(bh, stats.false_discovery_control(p)):
            compare("scipy false_discovery_control", a, b, SCIPY)
        # Holm, from the definition: reject while p of rank r is at most alpha / (m - r).
        order = np.argsort(p, kind="stable")
        expected = np.empty(len(p))
        expected[order] = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]))
        for a, b in zip(holm, expected):
            compare("Holm's definition", a, b, SCIPY)


def test_fishers_and_students_tests_equal_scipy():
    rng = np.random.default_rng(5)
    tables = [(int(rng.integers(0, n + 1)), n, int(rng.integers(0, m + 1)), m) for n in (1, 5, 30, 400) for m in (1, 8, 35, 3000) for _ in range(6)]
    tables += [(0, 10, 0, 10), (10, 10, 10, 10), (0, 10, 10, 10), (4, 8, 4, 8)]
    found = ours([("fisher", dict(zip("anbm", table))) for table in tables])
    for (a, n, b, m), mine in zip(tables, found):
        theirs = stats.fisher_exact([[a, n - a], [b, m - b]]).pvalue
        compare("scipy fisher_exact", mine, theirs, SCIPY)
    samples = [(rng.normal(d, 1, n), shift) for n in (2, 10, 500) for d in (-0.2, 0.0, 1.0) for shift in (-0.1, 0.0)]
    found = ours([("t_test_above", {"differences": x.tolist(), "shift": shift}) for x, shift in samples])
    for (x, shift), mine in zip(samples, found):
        compare("scipy ttest_1samp", mine, stats.ttest_1samp(x, shift, alternative="greater").pvalue, SCIPY)


def tango_score(only_a, only_b, n, d):
    """Tango 1998, equations 8 to 10, with second minus first as the difference: b counts what only the second has."""
    b, c = only_b, only_a
    big_b = -b - c + (2 * n - b + c) * d
    p21 = (np.sqrt(big_b**2 - 8 * n * (-c * d * (1 - d))) - big_b) / (4 * n)
    return (b - c - n * d) / np.sqrt(n * (2 * p21 + d * (1 - d)))


def test_tangos_score_equals_its_formula():
    cases = [(2, 12, 50), (1, 5, 200), (40, 38, 1000), (90, 20, 3000), (3, 3, 30)]
    arguments = [{"only_a": a, "only_b": b, "n": n, "margin": 0.05, "level": 0.95} for a, b, n in cases]
    for (a, b, n), mine in zip(cases, ours([("tango", x) for x in arguments])):
        compare("Tango's score test", mine["p"], stats.norm.sf(tango_score(a, b, n, -0.05)), SCIPY)
        z, estimate = stats.norm.ppf(0.975), (b - a) / n
        low = optimize.brentq(lambda d: tango_score(a, b, n, d) - z, -0.999, estimate - 1e-9, xtol=1e-15)
        high = optimize.brentq(lambda d: tango_score(a, b, n, d) + z, estimate + 1e-9, 0.999, xtol=1e-15)
        compare("Tango's score interval", mine["low"], low, SCIPY)
        compare("Tango's score interval", mine["high"], high, SCIPY)


def test_examples_needed_equal_their_formulas():
    for psi, difference, margin in ((0.18, -0.06, 0.02), (0.3, 0.01, 0.02), (0.05, 0.0, 0.01)):
        variance = psi - difference**2
        arguments = {"difference": difference, "variance": variance, "margin": margin, "alpha": 0.05, "power": 0.8}
        [mine] = ours([("power", arguments)])
        za2, za, zb = stats.norm.ppf([0.975, 0.95, 0.8])
        if difference:
            connor = ((za2 * np.sqrt(psi) + zb * np.sqrt(psi - difference**2)) / difference) ** 2
            compare("Connor's sample size", mine["difference"], np.ceil(connor), 0.0)
        else:
            assert mine["difference"] is None
        if difference + margin > 0:
            size = (za + zb) ** 2 * variance / (difference + margin) ** 2
            compare("sample size of non-inferiority", mine["non_inferiority"], np.ceil(size), 0.0)
        else:
            assert mine["non_inferiority"] is None


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_label_errors_equal_cleanlabs(classes):
    rng = np.random.default_rng(classes)
    n = 60 * classes
    truth = rng.integers(0, classes, n)
    labels = np.where(rng.random(n) < 0.15, rng.integers(0, classes, n), truth)
    labels[:classes] = np.arange(classes)
    probabilities = rng.dirichlet(np.full(classes, 0.5), n) + 1.5 * np.eye(classes)[truth] * rng.random((n, 1))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    theirs = find_label_issues(labels, probabilities, filter_by="confident_learning", n_jobs=1)
    [mine] = ours([("confident", {"labels": labels.tolist(), "probabilities": probabilities.tolist()})])
    missed = set(np.flatnonzero(theirs).tolist()) ^ {row for row, _ in mine}
    assert len(mine) > n // 20
    compare("cleanlab find_label_issues, rows judged otherwise", len(missed), 0, 0.0)

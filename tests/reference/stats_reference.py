"""Writes crates/stats/tests/fixtures/reference.tsv from scipy and from 40-digit arithmetic (mpmath).

Columns: name, integer arguments, float arguments, expected values; see the reader in crates/stats/tests/reference.rs.
Run from the repository's root: python tests/reference/stats_reference.py
"""

from pathlib import Path

from mpmath import binomial, mp, mpf
from scipy import stats

mp.dps = 40


def tails(k, n, p):
    """P(X <= k) and P(X = k) by adding up 40-digit terms: mpmath's incomplete beta does not converge for large n."""
    p = mpf(p)
    term = binomial(n, k) * p**k * (1 - p) ** (n - k)
    pmf, total = term, mpf(0)
    for i in range(k, -1, -1):
        total += term
        term *= i * (1 - p) / ((n - i + 1) * p)
        if term < total * mpf(10) ** -35:
            break
    return total, pmf


def exact_upper(k, n, alpha):
    """Clopper-Pearson: the p with P(X <= k) = alpha, by Newton from scipy's value."""
    p = mpf(stats.beta.ppf(1 - alpha, k + 1, n - k))
    for _ in range(6):
        total, pmf = tails(k, n, p)
        p += (total - mpf(alpha)) * (1 - p) / ((n - k) * pmf)
    return p


def exact_lower(k, n, alpha):
    """The p with P(X >= k) = alpha is one minus the upper limit of the failures."""
    return 1 - exact_upper(n - k, n, alpha)


def main():
    rows = []
    for n in (1, 2, 15, 16, 77, 500, 3080, 8501, 50000):
        for k in sorted({0, 1, n // 100, n // 20, n // 2, n - 1, n}):
            for level in (0.9, 0.95, 0.995):
                # 1 - level as the product computes it, in double precision.
                alpha = 1 - level
                if k < n:
                    rows.append(("upper", k, n, level, exact_upper(k, n, alpha)))
                if k > 0:
                    rows.append(("lower", k, n, level, exact_lower(k, n, alpha)))
            ci = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
            rows.append(("wilson_low", k, n, 0.95, max(ci.low, 0.0)))
            rows.append(("wilson_high", k, n, 0.95, min(ci.high, 1.0)))
    for a, b in ((0, 1), (3, 9), (10, 10), (40, 77), (500, 430)):
        rows.append(("mcnemar", a, b, 0, stats.binomtest(a, a + b, 0.5).pvalue))
    for k, n, p in ((0, 10, 0.1), (3, 1000, 0.01), (60, 1000, 0.02), (980, 1000, 0.99), (4100, 8501, 0.5)):
        rows.append(("cdf", k, n, p, tails(k, n, p)[0]))
    out = Path(__file__).parents[2] / "crates/stats/tests/fixtures/reference.tsv"
    text = "\n".join("\t".join((r[0], str(r[1]), str(r[2]), repr(r[3]), mp.nstr(mpf(r[4]), 20))) for r in rows)
    out.write_text(text + "\n")
    print(len(rows), "rows,", out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

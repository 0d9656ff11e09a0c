//! The exact limits against scipy and 40-digit arithmetic (`tests/reference/stats_reference.py`).

use understudy_stats::{binomial, paired};

#[test]
fn limits_and_p_values_agree_with_the_reference_to_twelve_digits() {
    let mut worst = (0.0_f64, "");
    let mut rows = 0;
    for line in include_str!("fixtures/reference.tsv").lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        let (a, b): (u64, u64) = (cells[1].parse().unwrap(), cells[2].parse().unwrap());
        let (x, expected): (f64, f64) = (cells[3].parse().unwrap(), cells[4].parse().unwrap());
        let ours = match cells[0] {
            "upper" => binomial::upper(a, b, x),
            "lower" => binomial::lower(a, b, x),
            "wilson_low" => binomial::wilson(a, b, x).low,
            "wilson_high" => binomial::wilson(a, b, x).high,
            "mcnemar" => paired::mcnemar(a, b),
            "cdf" => binomial::cdf(a, b, x),
            other => panic!("unknown row {other}"),
        };
        let difference = (ours - expected).abs() / expected.abs().max(1e-3);
        if difference > worst.0 {
            worst = (difference, line);
        }
        rows += 1;
    }
    println!("{rows} values, largest relative difference {:.1e} at {}", worst.0, worst.1);
    assert!(rows > 200 && worst.0 <= 1e-12, "{worst:?}");
}

//! Money in whole nano-dollars, and prices per token. No floating point touches a ledger.

use crate::answer::Usage;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    iter::Sum,
    ops::{Add, Sub},
};

/// An amount of money in nano-dollars (10⁻⁹ USD). Range ± 9.2 billion dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Money = Money(0);

    /// An amount in nano-dollars.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nano-dollars.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Dollars, rounded to the nearest nano-dollar; for prices and recorded costs that come as decimals.
    ///
    /// # Errors
    /// `Invalid` when the amount is not finite or beyond ± 9 billion dollars.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked first")]
    pub fn from_usd(usd: f64) -> crate::Result<Self> {
        let nanos = (usd * 1e9).round();
        if !nanos.is_finite() || nanos.abs() > 9e18 {
            return Err(crate::Error::invalid(format!("read amount {usd} USD: it is not a finite number below 9e9")));
        }
        Ok(Self(nanos as i64))
    }

    /// Dollars, for display and ratios.
    #[must_use]
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// `n` times the amount, exactly.
    ///
    /// # Errors
    /// `Invalid` when the result is beyond ± 9.2 billion dollars.
    pub fn times(self, n: u64) -> crate::Result<Self> {
        i64::try_from(n)
            .ok()
            .and_then(|n| self.0.checked_mul(n))
            .map(Self)
            .ok_or_else(|| crate::Error::invalid(format!("multiply {self} by {n}: amounts end at 9.2 billion dollars")))
    }

    /// The amount times a factor (hours, a share), rounded to the nearest nano-dollar.
    ///
    /// # Errors
    /// `Invalid` when the factor is not finite or the result is beyond ± 9 billion dollars.
    pub fn scaled(self, factor: f64) -> crate::Result<Self> {
        Self::from_usd(self.usd() * factor)
    }
}

impl Add for Money {
    type Output = Money;
    fn add(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Money;
    fn sub(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Money>>(iter: I) -> Money {
        iter.fold(Money::ZERO, Add::add)
    }
}

/// Dollars with as many decimals as the amount needs, at least two: `$0.00`, `$1.50`, `$0.000150`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, abs) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let fraction = format!("{:09}", abs % 1_000_000_000);
        let kept = fraction.trim_end_matches('0').len().max(2);
        f.pad(&format!("{sign}${}.{}", abs / 1_000_000_000, &fraction[..kept]))
    }
}

/// Price of a model's tokens, each amount per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Fresh input tokens.
    pub input_per_million: Money,
    /// Input tokens that the provider read from its cache; they are part of `Usage::input_tokens`.
    pub cached_input_per_million: Money,
    /// Output tokens, reasoning tokens among them.
    pub output_per_million: Money,
}

impl Price {
    /// A model that costs nothing per token because it runs in this process.
    pub const LOCAL: Price = Price {
        input_per_million: Money::ZERO,
        cached_input_per_million: Money::ZERO,
        output_per_million: Money::ZERO,
    };

    /// Cost of one answer: exact, rounded half up once, at the end, to the nano-dollar.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Money {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let part = |tokens: u64, price: Money| i128::from(tokens) * i128::from(price.nanos());
        let total = part(usage.input_tokens - cached, self.input_per_million)
            + part(cached, self.cached_input_per_million)
            + part(usage.output_tokens, self.output_per_million);
        Money(i64::try_from((total + 500_000).div_euclid(1_000_000)).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mini() -> Price {
        let usd = |x| Money::from_usd(x).expect("small");
        Price { input_per_million: usd(0.15), cached_input_per_million: usd(0.075), output_per_million: usd(0.60) }
    }

    #[test]
    fn costs_are_exact_to_the_nano_dollar() {
        let usage = Usage { input_tokens: 1001, cached_input_tokens: 1, output_tokens: 7, ..Usage::default() };
        assert_eq!(mini().cost(&usage).nanos(), 1000 * 150 + 75 + 7 * 600);
    }

    #[test]
    fn cached_tokens_are_never_counted_twice_or_below_zero() {
        let usage = Usage { input_tokens: 10, cached_input_tokens: 50, ..Usage::default() };
        assert_eq!(mini().cost(&usage).nanos(), 10 * 75);
    }

    #[test]
    fn multiples_are_exact_or_refused() {
        assert_eq!(Money::from_nanos(7).times(3).expect("small"), Money::from_nanos(21));
        assert!(Money::from_nanos(i64::MAX / 2).times(3).is_err());
        assert!(Money::from_nanos(1).times(u64::MAX).is_err());
        assert_eq!(Money::from_nanos(10).scaled(0.25).expect("small"), Money::from_nanos(3));
        assert!(Money::from_nanos(10).scaled(f64::NAN).is_err());
        assert_eq!(Money::from_nanos(3) - Money::from_nanos(5), Money::from_nanos(-2));
    }

    #[test]
    fn amounts_print_with_the_decimals_they_need() {
        let show = |n| Money::from_nanos(n).to_string();
        assert_eq!(
            [show(0), show(1_500_000_000), show(150_000), show(-1)],
            ["$0.00", "$1.50", "$0.00015", "-$0.000000001"]
        );
    }
}

//! What tokens cost: exact, in whole nano-dollars, rounded once at the end. Every figure of `advise`, the user's own
//! and the published examples alike, comes from [`bill`].

use understudy_core::{Error, Money, Price, Result, Usage};

/// How many units of the period that requests are counted in: 30 days of requests a day, or one month of requests a
/// month. A fraction, because an average month has 365/12 days and rounding it would cost cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Numerator.
    pub units: u64,
    /// Denominator, at least 1.
    pub of: u64,
}

impl Span {
    /// One period: requests are counted in the period that is billed.
    pub const ONE: Span = Span { units: 1, of: 1 };
    /// Days in an average month of a year with 365 days.
    pub const AVERAGE_MONTH: Span = Span { units: 365, of: 12 };

    /// Whole units.
    #[must_use]
    pub const fn whole(units: u64) -> Self {
        Self { units, of: 1 }
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.units as f64 / self.of as f64
    }
}

/// What `requests` per unit cost over `span` when each takes `usage` tokens: exact, rounded half up once.
///
/// # Errors
/// `Invalid` when the amount is beyond 9.2 billion dollars or the span's denominator is 0.
pub fn bill(price: &Price, usage: &Usage, requests: u64, span: Span) -> Result<Money> {
    let too_much = || Error::invalid("add up the bill: it is beyond 9.2 billion dollars, check tokens and volume");
    if span.of == 0 {
        return Err(Error::invalid("add up the bill: a span of units over 0"));
    }
    let cached = usage.cached_input_tokens.min(usage.input_tokens);
    let part = |tokens: u64, price: Money| i128::from(tokens) * i128::from(price.nanos());
    let one = part(usage.input_tokens - cached, price.input_per_million)
        + part(cached, price.cached_input_per_million)
        + part(usage.output_tokens, price.output_per_million);
    let total = one.checked_mul(i128::from(requests)).and_then(|t| t.checked_mul(i128::from(span.units)));
    let divisor = 1_000_000 * i128::from(span.of);
    let rounded = total.and_then(|t| t.checked_add(divisor / 2)).ok_or_else(too_much)?.div_euclid(divisor);
    i64::try_from(rounded).map(Money::from_nanos).map_err(|_| too_much())
}

/// A price per token that is the same in and out, as blended prices are quoted.
#[must_use]
pub fn blended(per_million: Money) -> Price {
    Price { input_per_million: per_million, cached_input_per_million: per_million, output_per_million: per_million }
}

/// The amount in whole cents, half a cent up.
#[must_use]
pub fn cents(amount: Money) -> i64 {
    (amount.nanos() + 5_000_000).div_euclid(10_000_000)
}

/// Dollars for people: cents with thousands separated (`$45,000.00`), and below a cent as many digits as the amount
/// needs to show three of its own (`$0.000157`).
#[must_use]
pub fn dollars(amount: Money) -> String {
    let nanos = amount.nanos();
    let sign = if nanos < 0 { "-" } else { "" };
    if nanos != 0 && nanos.unsigned_abs() < 1_000_000_000 / 10 {
        let usd = nanos.unsigned_abs() as f64 * 1e-9;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 2 and 9")]
        let digits = (2.0 - usd.log10().floor()).clamp(2.0, 9.0) as usize;
        let text = format!("{usd:.digits$}");
        let whole = text.find('.').map_or(text.len(), |dot| dot + 3);
        let kept = text.trim_end_matches('0').len().max(whole);
        return format!("{sign}${}", &text[..kept]);
    }
    let cents = cents(Money::from_nanos(i64::try_from(nanos.unsigned_abs()).unwrap_or(i64::MAX)));
    format!("{sign}${}.{:02}", thousands(u64::try_from(cents / 100).unwrap_or(0)), cents % 100)
}

/// A count with its thousands separated: `1,234,567`.
#[must_use]
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn usd(x: f64) -> Money {
        Money::from_usd(x).expect("small")
    }

    #[test]
    fn dollars_show_cents_and_small_amounts_their_digits() {
        let show = |x| dollars(usd(x));
        assert_eq!(
            [show(0.0), show(708.75), show(45_000.0), show(0.001_57), show(-1.5), show(0.05), show(1_234_567.891)],
            ["$0.00", "$708.75", "$45,000.00", "$0.00157", "-$1.50", "$0.05", "$1,234,567.89"]
        );
    }

    #[test]
    fn an_average_month_is_not_rounded_before_the_end() {
        let price = Price { output_per_million: usd(14.0), ..blended(usd(1.75)) };
        let usage = Usage { input_tokens: 1000, output_tokens: 1000, ..Usage::default() };
        assert_eq!(bill(&price, &usage, 1500, Span::whole(30)).expect("small"), usd(708.75));
        assert_eq!(bill(&price, &usage, 1500, Span::AVERAGE_MONTH).expect("small"), usd(718.593_75));
    }

    #[test]
    fn a_bill_too_large_for_the_ledger_is_an_error_not_a_maximum() {
        let usage = Usage { input_tokens: u64::MAX, ..Usage::default() };
        assert!(bill(&blended(usd(10.0)), &usage, u64::MAX, Span::ONE).is_err());
        assert!(bill(&blended(usd(10.0)), &usage, 1, Span { units: 1, of: 0 }).is_err());
    }

    proptest! {
        /// The ledger's own arithmetic is the reference: it bills the same tokens as one request.
        #[test]
        fn a_bill_is_what_the_ledger_would_add_up(
            input in 0u64..100_000, cached in 0u64..100_000, output in 0u64..100_000, n in 0u64..1_000_000,
            prices in (0i64..100_000_000_000, 0i64..100_000_000_000, 0i64..100_000_000_000),
        ) {
            let price = Price {
                input_per_million: Money::from_nanos(prices.0),
                cached_input_per_million: Money::from_nanos(prices.1),
                output_per_million: Money::from_nanos(prices.2),
            };
            let one = Usage { input_tokens: input, cached_input_tokens: cached.min(input), output_tokens: output, ..Usage::default() };
            let all = Usage {
                input_tokens: input * n,
                cached_input_tokens: one.cached_input_tokens * n,
                output_tokens: output * n,
                ..Usage::default()
            };
            if let Ok(amount) = bill(&price, &one, n, Span::ONE) {
                prop_assert_eq!(amount, price.cost(&all));
            } else {
                prop_assert!(price.cost(&all) == Money::from_nanos(i64::MAX));
            }
        }
    }
}

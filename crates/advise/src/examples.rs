//! The field's published cost examples, computed by the same code as the user's own costs. An example agrees when it
//! is reproduced to the cent (or lies inside the published range) under the reading that its text gives; otherwise the
//! reason says which reading, if any, gives the published figure.

use crate::{
    cost::{Span, bill, blended, cents, dollars, thousands},
    forecast::saved_by_share,
};
use serde::Serialize;
use understudy_core::{Money, Price, Result, Usage};

/// A figure: one number, or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Figure {
    /// One number.
    One(f64),
    /// From, to.
    Range([f64; 2]),
}

/// One published example and what comes out when it is computed.
#[derive(Debug, Clone, Serialize)]
pub struct Example {
    /// Stable name.
    pub name: String,
    /// What is computed, in words.
    pub about: String,
    /// Unit of both figures: `usd_per_month`, `usd`, `ratio` or `share`.
    pub unit: &'static str,
    /// The published figure; none where the example names amounts and no result.
    pub published: Option<Figure>,
    /// Ours.
    pub computed: Figure,
    /// Equal to the cent, or inside the published range.
    pub agrees: bool,
    /// What was assumed and, where it does not agree, why.
    pub reason: String,
}

/// Every example.
///
/// # Errors
/// None in practice: amounts far inside the ledger's range.
pub fn examples() -> Result<Vec<Example>> {
    let mut all = vec![staff("staff-large", LARGE, 720.0)?, staff("staff-small", SMALL, 22.5)?, staff_month_length()?];
    for queries in [10_000, 100_000, 1_000_000, 10_000_000] {
        all.push(volume(queries)?);
    }
    all.push(conversations("conversations-large", LARGE, [15_000.0, 75_000.0])?);
    all.push(conversations("conversations-small", SMALL, [150.0, 800.0])?);
    all.push(servers()?);
    all.push(two_tier()?);
    Ok(all)
}

/// USD per million tokens, in and out.
const LARGE: (f64, f64) = (1.75, 14.0);
const SMALL: (f64, f64) = (0.10, 0.40);

fn price((input, output): (f64, f64)) -> Result<Price> {
    Ok(Price { output_per_million: Money::from_usd(output)?, ..blended(Money::from_usd(input)?) })
}

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

/// 300 staff, each with 5 requests a day.
const STAFF_REQUESTS: u64 = 300 * 5;

/// Ways to read "1K tokens" a request.
const TOKENS: [(&str, u64, u64); 4] = [
    ("1,000 tokens in and 1,000 out", 1000, 1000),
    ("1,000 tokens, half in, half out", 500, 500),
    ("1,000 tokens in, none out", 1000, 0),
    ("1,000 tokens out, none in", 0, 1000),
];

/// Ways to read "a month" of days.
fn months() -> Vec<(String, Span)> {
    let whole = (20..=31).map(|days| (format!("{days} days"), Span::whole(days)));
    let average = [
        ("365/12 = 30.42 days".to_owned(), Span::AVERAGE_MONTH),
        ("365.25/12 = 30.44 days".to_owned(), Span { units: 1461, of: 48 }),
        ("30.5 days".to_owned(), Span { units: 61, of: 2 }),
    ];
    whole.chain(average).collect()
}

/// 300 staff × 5 requests × 1K tokens a day, billed for a month of 30 days. The other readings are tried, too, and the
/// reason names those that come near.
fn staff(name: &str, prices: (f64, f64), published: f64) -> Result<Example> {
    let listed = price(prices)?;
    let computed = bill(&listed, &usage(1000, 1000), STAFF_REQUESTS, Span::whole(30))?;
    let target = Money::from_usd(published)?;
    let agrees = cents(computed) == cents(target);
    let reason = if agrees {
        format!("{} and a month of 30 days", TOKENS[0].0)
    } else {
        let (mut exact, mut near) = (Vec::new(), None::<(i64, String)>);
        for (tokens, input, output) in TOKENS {
            for (days, span) in months() {
                let amount = bill(&listed, &usage(input, output), STAFF_REQUESTS, span)?;
                let text = format!("{tokens} and a month of {days} give {}", dollars(amount));
                let off = (cents(amount) - cents(target)).abs();
                if off == 0 {
                    exact.push(text.clone());
                }
                if near.as_ref().is_none_or(|(best, _)| off < *best) {
                    near = Some((off, text));
                }
            }
        }
        let daily = bill(&listed, &usage(1000, 1000), STAFF_REQUESTS, Span::ONE)?;
        let first = format!("{} and a month of 30 days give {}", TOKENS[0].0, dollars(computed));
        let readings = match (exact.is_empty(), near) {
            (false, _) => format!("the published figure is another reading: {}", exact.join("; ")),
            (true, Some((_, text))) => format!(
                "no reading of the month (20 to 31 days, 365/12, 365.25/12, 30.5) and of the tokens gives {} to the \
                 cent; nearest: {text}; it takes {:.2} days of {}",
                dollars(target),
                target.usd() / daily.usd(),
                dollars(daily)
            ),
            (true, None) => String::new(),
        };
        format!("{first}; {readings}")
    };
    Ok(Example {
        name: name.into(),
        about: format!(
            "300 staff × 5 requests × 1K tokens a day at ${} / ${} per million tokens, a month",
            prices.0, prices.1
        ),
        unit: "usd_per_month",
        published: Some(Figure::One(published)),
        computed: Figure::One(computed.usd()),
        agrees,
        reason,
    })
}

/// Whether the two staff figures belong together: their ratio must be that of the prices.
fn staff_month_length() -> Result<Example> {
    let daily = |prices| bill(&price(prices)?, &usage(1000, 1000), STAFF_REQUESTS, Span::ONE);
    let (large, small) = (daily(LARGE)?, daily(SMALL)?);
    let (published, computed) = (720.0 / 22.5, large.usd() / small.usd());
    let agrees = (published - computed).abs() < 0.005;
    Ok(Example {
        name: "staff-ratio".into(),
        about: "the two staff figures divided: the month's length cancels".into(),
        unit: "ratio",
        published: Some(Figure::One(published)),
        computed: Figure::One(computed),
        agrees,
        reason: format!(
            "a day costs {} and {}: the same month in both gives a ratio of {computed:.2}, the published figures give \
             {published:.2}; $720 is {:.2} such days and $22.50 is {:.2}: different month lengths, or one was rounded",
            dollars(large),
            dollars(small),
            720.0 / large.usd(),
            22.5 / small.usd()
        ),
    })
}

/// Queries at $45 and $0.25 per million tokens.
fn volume(queries: u64) -> Result<Example> {
    const TOKENS: u64 = 1000;
    let cost = |usd| bill(&blended(Money::from_usd(usd)?), &usage(TOKENS, 0), queries, Span::ONE);
    let (large, small) = (cost(45.0)?, cost(0.25)?);
    let (published, computed) = (180.0, large.usd() / small.usd());
    Ok(Example {
        name: format!("volume-{queries}"),
        about: format!("{} queries at $45 and $0.25 per million tokens, the ratio", thousands(queries)),
        unit: "ratio",
        published: Some(Figure::One(published)),
        computed: Figure::One(computed),
        agrees: cents(large) == cents(small.times(180)?),
        reason: format!(
            "with 1,000 tokens a query {} against {}; the ratio is that of the prices, at any volume and length: \
             volume changes the amounts and not the advantage. One price for tokens in and out is a blend: $45 is \
             $30 in and $60 out in equal parts",
            dollars(large),
            dollars(small)
        ),
    })
}

/// 1M conversations of 500–1,000 tokens each way, at the prices of the staff example: the example names none.
fn conversations(name: &str, prices: (f64, f64), published: [f64; 2]) -> Result<Example> {
    const CONVERSATIONS: u64 = 1_000_000;
    let listed = price(prices)?;
    let low = bill(&listed, &usage(500, 500), CONVERSATIONS, Span::ONE)?;
    let high = bill(&listed, &usage(1000, 1000), CONVERSATIONS, Span::ONE)?;
    let agrees = low.usd() >= published[0] && high.usd() <= published[1];
    // USD per million tokens in plus per million out that each end of the published range implies.
    let (at_low, at_high) = (published[0] / 500.0, published[1] / 1000.0);
    let implied = format!(
        "the published range takes ${at_low:.2} at 500 tokens and ${at_high:.2} at 1,000 (input plus output per \
         million): it spans {:.1}×, the tokens only 2×, so the rest is a spread of prices that the example does not name",
        published[1] / published[0]
    );
    Ok(Example {
        name: name.into(),
        about: format!(
            "1,000,000 conversations of 500 to 1,000 tokens each way, at ${} / ${} per million tokens",
            prices.0, prices.1
        ),
        unit: "usd",
        published: Some(Figure::Range(published)),
        computed: Figure::Range([low.usd(), high.usd()]),
        agrees,
        reason: format!(
            "{} to {} lies {} the published {} to {}; {implied}",
            dollars(low),
            dollars(high),
            if agrees { "inside" } else { "outside" },
            dollars(Money::from_usd(published[0])?),
            dollars(Money::from_usd(published[1])?)
        ),
    })
}

/// 8 × A100 at $40 an hour against a $20 server.
fn servers() -> Result<Example> {
    let (gpus, server) = (Money::from_usd(40.0)?, Money::from_usd(20.0)?);
    // Hours in an average month: 365 / 12 days.
    let month = gpus.times(365 * 24)?.scaled(1.0 / 12.0)?;
    let ratio = |per_hours: f64| gpus.scaled(per_hours).map(|amount| amount.usd() / server.usd());
    let (hourly, daily, monthly) = (ratio(1.0)?, ratio(24.0)?, month.usd() / server.usd());
    Ok(Example {
        name: "servers".into(),
        about: "8 × A100 at $40/h against a $20 server, the ratio over a month".into(),
        unit: "ratio",
        published: None,
        computed: Figure::Range([hourly, monthly]),
        agrees: false,
        reason: format!(
            "the units do not match: $40 is an hour (${:.2} for each GPU; {} a month of 730 h), and the $20 names no \
             period: {hourly:.0}× if it is an hour, {daily:.0}× if a day, {monthly:.0}× if a month; nor do the two do \
             the same work",
            40.0 / 8.0,
            dollars(month)
        ),
    })
}

/// Two tiers, 80/20, at $0.001 and $0.03 a query.
fn two_tier() -> Result<Example> {
    let (small, large) = (Money::from_usd(0.001)?, Money::from_usd(0.03)?);
    let published = [0.6, 0.8];
    let saved = saved_by_share(0.8, small, large);
    // saved = share × (1 − small/large), solved for the share.
    let share_for = |saved: f64| saved / (1.0 - small.usd() / large.usd());
    let cascade = saved - 0.2 * small.usd() / large.usd();
    let agrees = (published[0]..=published[1]).contains(&saved);
    Ok(Example {
        name: "two-tier".into(),
        about: "80 % of queries at $0.001, 20 % at $0.03, against all at $0.03: share of the cost saved".into(),
        unit: "share",
        published: Some(Figure::Range(published)),
        computed: Figure::One(saved),
        agrees,
        reason: format!(
            "{:.1} % when a router knows where each query belongs, {:.1} % when every query asks the small model first; \
             60 to 80 % saved takes {:.1} to {:.1} % of the queries on the small model",
            100.0 * saved,
            100.0 * cascade,
            100.0 * share_for(published[0]),
            100.0 * share_for(published[1])
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> Example {
        examples().expect("small amounts").into_iter().find(|e| e.name == name).expect("an example of this name")
    }

    #[test]
    fn each_example_is_computed_to_the_cent() {
        for (name, computed, agrees) in [
            ("staff-large", Figure::One(708.75), false),
            ("staff-small", Figure::One(22.5), true),
            ("volume-10000", Figure::One(180.0), true),
            ("volume-10000000", Figure::One(180.0), true),
            ("conversations-large", Figure::Range([7875.0, 15_750.0]), false),
            ("conversations-small", Figure::Range([250.0, 500.0]), true),
            ("servers", Figure::Range([2.0, 1460.0]), false),
        ] {
            let example = found(name);
            assert_eq!((example.computed, example.agrees), (computed, agrees), "{example:?}");
        }
        let Figure::One(saved) = found("two-tier").computed else { panic!("one number") };
        assert!((saved - 0.8 * (1.0 - 0.001 / 0.03)).abs() < 1e-12);
    }

    #[test]
    fn a_figure_that_is_off_by_a_cent_does_not_agree() {
        assert!(staff("x", SMALL, 22.50).expect("small").agrees);
        assert!(!staff("x", SMALL, 22.51).expect("small").agrees);
        // A published 28-day month is found as another reading, and flagged all the same.
        let other = staff("x", LARGE, 661.5).expect("small");
        assert!(!other.agrees && other.reason.contains("28 days give $661.50"), "{}", other.reason);
        assert!(!conversations("x", SMALL, [260.0, 800.0]).expect("small").agrees);
    }

    #[test]
    fn the_flag_says_how_long_the_month_would_have_to_be() {
        let large = found("staff-large");
        assert!(large.reason.contains("30.48 days") && large.reason.contains("$720.56"), "{}", large.reason);
        assert!(!found("staff-ratio").agrees);
        assert!(found("two-tier").reason.contains("62.1 to 82.8 %"));
    }
}

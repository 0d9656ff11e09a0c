//! What a decision costs, on one thread and on prompts of about 500 tokens.

use super::{RouterArgs, encoder};
use cpu_time::ThreadTime;
use serde::Serialize;
use std::{hint::black_box, time::Instant};
use understudy_core::Result;
use understudy_model::encoder::Scratch;
use understudy_pilot::router::{self, Example, Kind};
use understudy_route::router::Prompt;

/// Decisions that are timed.
const DECISIONS: usize = 500;
/// Bytes of about 500 tokens of English.
const BYTES: usize = 2000;

/// Microseconds of one decision, embedding included.
#[derive(Debug, Serialize)]
pub(super) struct Decisions {
    kind: &'static str,
    decision_us_p50: f64,
    decision_us_p99: f64,
    /// Time on the processor alone, which other work on the machine hardly changes.
    cpu_us_p50: f64,
    cpu_us_p99: f64,
}

pub(super) fn decisions(args: &RouterArgs, examples: &[Example<'_>]) -> Result<Vec<Decisions>> {
    let train = &examples[..args.train.min(examples.len())];
    let texts: Vec<String> = (0..DECISIONS).map(|i| long(examples, i)).collect();
    let with_embeddings = examples[0].prompt.embedding.is_some();
    let encoder = with_embeddings.then(|| encoder(args)).transpose()?;
    let mut scratch = Scratch::default();
    println!(
        "{:<18} {:>10} {:>10} {:>10} {:>10}   one thread, prompts of {BYTES} bytes (about 500 tokens)",
        "decision", "p50", "p99", "cpu p50", "cpu p99"
    );
    let mut out = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| with_embeddings || !kind.wants_embedding()) {
        let predictor = router::fit(kind, train, Example::gain)?;
        let mut took = Vec::with_capacity(DECISIONS);
        let mut busy = Vec::with_capacity(DECISIONS);
        for text in &texts {
            let (start, cpu) = (Instant::now(), ThreadTime::now());
            let embedding = match &encoder {
                Some(encoder) if kind.wants_embedding() => {
                    let tokens = encoder.tokenize(text)?;
                    Some(encoder.embed(std::slice::from_ref(&tokens), &mut scratch).swap_remove(0))
                }
                _ => None,
            };
            black_box(predictor.predict(&Prompt { text, group: None, embedding: embedding.as_deref() }));
            busy.push(cpu.elapsed().as_secs_f64() * 1e6);
            took.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let [(p50, p99), (cpu_p50, cpu_p99)] = [&mut took, &mut busy].map(|times| {
            times.sort_by(f64::total_cmp);
            (times[DECISIONS / 2], times[DECISIONS * 99 / 100])
        });
        println!("{:<18} {p50:>8.0}us {p99:>8.0}us {cpu_p50:>8.0}us {cpu_p99:>8.0}us", kind.as_str());
        out.push(Decisions {
            kind: kind.as_str(),
            decision_us_p50: p50,
            decision_us_p99: p99,
            cpu_us_p50: cpu_p50,
            cpu_us_p99: cpu_p99,
        });
    }
    Ok(out)
}

/// Prompts strung together until they have the length.
fn long(examples: &[Example<'_>], start: usize) -> String {
    let mut text = String::new();
    for example in examples.iter().cycle().skip(start) {
        text.push_str(example.prompt.text);
        text.push('\n');
        if text.len() >= BYTES {
            break;
        }
    }
    let mut end = BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

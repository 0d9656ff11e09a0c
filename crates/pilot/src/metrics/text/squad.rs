//! Exact match and token F1 as SQuAD's evaluation computes them (P. Rajpurkar et al., 2016; empty answers as in
//! version 2.0).

use super::is_python_space;
use std::collections::HashMap;

/// The words of a text in lower case, without ASCII punctuation and English articles.
#[must_use]
pub fn normalised(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let plain: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let mut kept = String::with_capacity(plain.len());
    // An article is a run of letters and digits of its own; what separates such runs stays as it is.
    let mut run = String::new();
    let flush = |run: &mut String, kept: &mut String| {
        kept.push_str(if matches!(run.as_str(), "a" | "an" | "the") { " " } else { run });
        run.clear();
    };
    for c in plain.chars() {
        if c.is_alphanumeric() {
            run.push(c);
        } else {
            flush(&mut run, &mut kept);
            kept.push(c);
        }
    }
    flush(&mut run, &mut kept);
    kept.split(is_python_space).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Whether the answer equals a reference after normalisation.
#[must_use]
pub fn exact_match(references: &[&str], answer: &str) -> bool {
    let answer = normalised(answer);
    references.iter().any(|reference| normalised(reference) == answer)
}

/// Harmonic mean of precision and recall of words, the best over the references; 0 without references.
#[must_use]
pub fn token_f1(references: &[&str], answer: &str) -> f64 {
    let answer = normalised(answer);
    references.iter().map(|reference| f1(&normalised(reference), &answer)).fold(0.0, f64::max)
}

fn f1(reference: &[String], answer: &[String]) -> f64 {
    if reference.is_empty() || answer.is_empty() {
        return f64::from(u8::from(reference.is_empty() && answer.is_empty()));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    reference.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut common = 0_u32;
    for word in answer {
        if let Some(count) = left.get_mut(word.as_str())
            && *count > 0
        {
            *count -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return 0.0;
    }
    let precision = f64::from(common) / answer.len() as f64;
    let recall = f64::from(common) / reference.len() as f64;
    2.0 * precision * recall / (precision + recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_case_and_punctuation_do_not_count() {
        assert!(exact_match(&["Paris", "The Eiffel Tower"], " the eiffel  tower!"));
        assert_eq!(normalised("An a.n. atheist, the-one"), ["atheist", "theone"]);
        assert!((token_f1(&["big red dog"], "the red dog ran") - 2.0 / 3.0).abs() < 1e-15);
        assert!((token_f1(&[""], "the") - 1.0).abs() < 1e-15 && token_f1(&["x"], "").abs() < 1e-15);
    }
}

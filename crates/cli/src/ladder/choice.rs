//! Which rungs are worth having, and which one to take.

use super::Climbed;
use std::collections::BTreeMap;

/// Marks the rungs that no other beats in share kept, time and memory.
pub(super) fn mark_frontier(rungs: &mut [Climbed]) {
    let points: BTreeMap<String, (f64, f64, f64)> =
        rungs.iter().map(|r| (r.rung.clone(), (r.kept, r.us_per_text, r.memory_mb))).collect();
    for rung in rungs {
        let (kept, us, mb) = (rung.kept, rung.us_per_text, rung.memory_mb);
        let beats = |(name, &(k, u, m)): (&String, &(f64, f64, f64))| {
            *name != rung.rung && k >= kept && u <= us && m <= mb && (k > kept || u < us || m < mb)
        };
        rung.on_frontier = kept > 0.0 && !points.iter().any(beats);
    }
}

/// The fastest that keeps as much as the best, less the slack.
pub(super) fn pick(rungs: &[Climbed], slack: f64) -> Option<&Climbed> {
    let most = rungs.iter().map(|r| r.kept).fold(0.0, f64::max);
    let enough = rungs.iter().filter(|r| r.kept > 0.0 && r.kept >= most - slack);
    enough.min_by(|a, b| a.us_per_text.total_cmp(&b.us_per_text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn rung(name: &str, kept: f64, us_per_text: f64, memory_mb: f64) -> Climbed {
        let nothing = String::new();
        Climbed {
            rung: name.into(),
            trained_for: nothing.clone(),
            judged_for: nothing.clone(),
            artifact: PathBuf::new(),
            hash: nothing,
            seconds: 0.0,
            examples: 0,
            accuracy: None,
            kept,
            threshold: None,
            bound: None,
            refusal: None,
            us_per_text,
            memory_mb,
            on_frontier: false,
        }
    }

    #[test]
    fn the_cheapest_that_keeps_most_wins_and_what_is_beaten_is_off_the_frontier() {
        let mut rungs = [
            rung("words", 0.80, 5.0, 9.0),
            rung("static", 0.895, 6.0, 30.0),
            rung("head", 0.90, 900.0, 25.0),
            rung("slow", 0.85, 990.0, 99.0),
        ];
        mark_frontier(&mut rungs);
        assert_eq!(rungs.iter().map(|r| r.on_frontier).collect::<Vec<_>>(), [true, true, true, false]);
        assert_eq!(pick(&rungs, 0.01).map(|r| r.rung.as_str()), Some("static"));
        assert_eq!(pick(&rungs, 0.0).map(|r| r.rung.as_str()), Some("head"));
        assert!(pick(&[rung("none", 0.0, 1.0, 1.0)], 0.01).is_none());
    }
}

//! What one number says about a curve.

use super::{drive::Stage, hull, ranked::Ranked, routellm};

/// Points of quality (as shares) at which the share kept is reported.
pub const LOSSES: [f64; 3] = [0.005, 0.01, 0.02];

/// Mean qualities are compared up to their rounding.
const ROUNDING: f64 = 1e-12;

/// The figures of a curve: plain numbers, or numbers with their intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures<V = f64> {
    /// Average performance gap recovered as RouteLLM computes it, from the deciles of the score: 0.5 is chance, 1 is the
    /// large model's quality for nothing. `None` when the large model is not better.
    pub apgr: Option<V>,
    /// The same from every threshold.
    pub apgr_full: Option<V>,
    /// Percentage of calls to the large model that recovers half of the gap, as RouteLLM computes it.
    pub cpt50: Option<V>,
    /// … and four fifths of it.
    pub cpt80: Option<V>,
    /// Average improvement in quality (RouterBench, arXiv 2403.12031, section 3): mean height of the curve's
    /// non-decreasing hull between the price of the small model and that of the large one; with unknown prices, over
    /// the share of calls to the large model.
    pub aiq: Option<V>,
    /// Largest share kept with at most [`LOSSES`] quality lost against always asking the large model.
    pub kept_at_loss: [V; 3],
}

impl Figures {
    pub(super) fn of(ranked: &Ranked, stage: Stage) -> Self {
        let (small, large) = (ranked.mean_small(), ranked.mean_large());
        let knots = routellm::curve(ranked);
        let cuts = ranked.cuts();
        let mut full: Vec<routellm::Knot> = cuts.iter().map(|cut| (1.0 - cut.share, cut.quality)).collect();
        full.reverse();
        let kept_at = |loss: f64| {
            let enough = large - loss - ROUNDING;
            let best = cuts.iter().rev().find(|cut| cut.quality >= enough);
            best.map_or(0.0, |cut| cut.share)
        };
        let aiq = match ranked.cost(stage == Stage::After) {
            Some((cost, [cost_small, cost_large])) => {
                let points = cuts.iter().map(|cut| (cost[cut.kept], cut.quality));
                hull::mean_height(points, (cost_small, small), (cost_large, large))
            }
            None => hull::mean_height(full.iter().copied(), (0.0, small), (1.0, large)),
        };
        Self {
            apgr: routellm::apgr(&knots, small, large),
            apgr_full: routellm::apgr(&full, small, large),
            cpt50: routellm::cpt(&knots, small, large, 0.5),
            cpt80: routellm::cpt(&knots, small, large, 0.8),
            aiq,
            kept_at_loss: LOSSES.map(kept_at),
        }
    }
}

impl<V: Copy> Figures<V> {
    /// Every figure, `None` where there is none.
    pub(super) fn values(&self) -> [Option<V>; 8] {
        let [a, b, c] = self.kept_at_loss.map(Some);
        [self.apgr, self.apgr_full, self.cpt50, self.cpt80, self.aiq, a, b, c]
    }

    /// Each figure together with its place in [`Figures::values`].
    pub(super) fn map<W>(&self, mut f: impl FnMut(usize, V) -> W) -> Figures<W> {
        let mut at = |place: usize, value: Option<V>| value.map(|value| f(place, value));
        let (apgr, apgr_full) = (at(0, self.apgr), at(1, self.apgr_full));
        let (cpt50, cpt80, aiq) = (at(2, self.cpt50), at(3, self.cpt80), at(4, self.aiq));
        let [a, b, c] = self.kept_at_loss;
        Figures { apgr, apgr_full, cpt50, cpt80, aiq, kept_at_loss: [f(5, a), f(6, b), f(7, c)] }
    }
}

//! Holding out parts of the examples in turn: what models that had not seen an item say about it chooses how strongly
//! to regularise, fits the temperature and sets the threshold of rejection.
//!
//! The models come from [`crate::head`], [`crate::words`] and [`crate::table`]; this file only looks at their logits.

use crate::{
    split::{FOLDS, Place, Use},
    temperature,
};
use serde::Serialize;
use std::ops::ControlFlow;

/// A step along the regularisation path.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PathStep {
    /// Inverse regularisation strength; of a token table, passes over the texts.
    pub c: f64,
    /// Mean log loss on the held-out items that choose.
    pub loss: f64,
}

/// Logits of items, by models that had not seen them, and what is right.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Unseen {
    /// One row for each item.
    pub logits: Vec<Vec<f64>>,
    /// Position of the right class.
    pub labels: Vec<usize>,
    /// Which example each is.
    pub items: Vec<usize>,
}

/// How parts are held out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule<'p> {
    /// The steps of the path, in the order in which models are fitted.
    pub(crate) steps: &'p [f64],
    /// Steps without a lower loss before the path ends.
    pub(crate) patience: usize,
    /// Below this number of examples every fold is held out in turn; from it on, one fold is enough.
    pub(crate) all_folds_below: usize,
}

/// What was chosen.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// Position in the steps.
    pub(crate) step: usize,
    pub(crate) path: Vec<PathStep>,
    pub(crate) temperature: f64,
    /// Everything that was held out, by the models of the chosen step.
    pub(crate) unseen: Unseen,
    pub(crate) n_stop: usize,
    pub(crate) n_calibrate: usize,
}

/// Takes the logits of one step of the path; says whether to go on.
pub(crate) type Show<'s> = dyn FnMut(Vec<Vec<f64>>) -> ControlFlow<()> + 's;

/// Holds out folds and chooses. `fit_path` fits along the path to the first positions and shows the logits of the
/// second ones, until it is told to stop.
pub(crate) fn cross_fit<E>(
    labels: &[usize],
    places: &[Place],
    rule: Rule<'_>,
    mut fit_path: impl FnMut(&[usize], &[usize], &mut Show<'_>) -> Result<(), E>,
) -> Result<Chosen, E> {
    let alone = labels.len() >= rule.all_folds_below;
    let folds = if alone { vec![best_fold(places)] } else { (0..FOLDS).collect() };
    let mut parts = Vec::new();
    for fold in folds {
        let (out, rest): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&i| places[i].fold == fold);
        if out.is_empty() || rest.is_empty() {
            continue;
        }
        let mut uses: Vec<Use> = out.iter().map(|&i| places[i].held_out_for).collect();
        if alone && !uses.contains(&Use::Stop) {
            // Regularisation that nothing chooses would be the strongest; without calibration the temperature is 1.
            uses.fill(Use::Stop);
        }
        let labels = out.iter().map(|&i| labels[i]).collect();
        let mut part = HeldOut { labels, items: out.clone(), uses, logits: Vec::new() };
        let (mut best, mut since) = (f64::INFINITY, 0);
        let mut show = |logits| {
            part.logits.push(logits);
            let (loss, n) = part.loss(part.logits.len() - 1);
            if n > 0 && loss >= best {
                since += 1;
                // One fold alone decides when it ends; with several, the sum over folds may turn later.
                if alone && since >= rule.patience {
                    return ControlFlow::Break(());
                }
            } else {
                (best, since) = (loss, 0);
            }
            ControlFlow::Continue(())
        };
        fit_path(&rest, &out, &mut show)?;
        parts.push(part);
    }
    Ok(choose(&parts, rule.steps))
}

/// The fold to hold out where one is enough: the first with items that choose, or else the first there is.
fn best_fold(places: &[Place]) -> usize {
    places.iter().map(|place| (place.held_out_for != Use::Stop, place.fold)).min().map_or(0, |(_, fold)| fold)
}

/// The best step on the stop items, and the temperature on the calibration items.
fn choose(parts: &[HeldOut], steps: &[f64]) -> Chosen {
    let count = |of: Use| parts.iter().map(|part| part.of(of).count()).sum();
    let (n_stop, n_calibrate) = (count(Use::Stop), count(Use::Calibrate));
    let shown = parts.iter().map(|part| part.logits.len()).min().unwrap_or(0);
    let mut path = Vec::new();
    for (step, &c) in steps.iter().enumerate().take(shown) {
        let (loss, n) = parts.iter().map(|p| p.loss(step)).fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        if n > 0 {
            path.push(PathStep { c, loss: loss / n as f64 });
        }
    }
    if path.is_empty() {
        // Too few items to hold any out: the strongest regularisation, uncalibrated.
        let path = vec![PathStep { c: steps[0], loss: f64::NAN }];
        return Chosen { step: 0, path, temperature: 1.0, unseen: Unseen::default(), n_stop, n_calibrate };
    }
    let step = (0..path.len()).min_by(|&a, &b| path[a].loss.total_cmp(&path[b].loss)).unwrap_or(0);
    let pooled = |wanted: &dyn Fn(Use) -> bool| {
        let mut pooled = Unseen::default();
        for part in parts {
            for i in (0..part.uses.len()).filter(|&i| wanted(part.uses[i])) {
                pooled.logits.push(part.logits[step][i].clone());
                pooled.labels.push(part.labels[i]);
                pooled.items.push(part.items[i]);
            }
        }
        pooled
    };
    let calibrate = pooled(&|part| part == Use::Calibrate);
    let temperature = temperature::fit(&calibrate.logits, &calibrate.labels);
    Chosen { step, path, temperature, unseen: pooled(&|_| true), n_stop, n_calibrate }
}

/// What models that had not seen a fold say about it.
struct HeldOut {
    labels: Vec<usize>,
    items: Vec<usize>,
    uses: Vec<Use>,
    /// One row per item, for each step of the path.
    logits: Vec<Vec<Vec<f64>>>,
}

impl HeldOut {
    fn of(&self, wanted: Use) -> impl Iterator<Item = usize> {
        (0..self.uses.len()).filter(move |&i| self.uses[i] == wanted)
    }

    /// Sum of the log loss over the stop items, and their number. At its best temperature, because that is what the
    /// model will run at: weak regularisation is not punished for being too sure of itself.
    fn loss(&self, step: usize) -> (f64, usize) {
        let chosen: Vec<usize> = self.of(Use::Stop).collect();
        let logits: Vec<Vec<f64>> = chosen.iter().map(|&i| self.logits[step][i].clone()).collect();
        let labels: Vec<usize> = chosen.iter().map(|&i| self.labels[i]).collect();
        let t = temperature::fit(&logits, &labels);
        (logits.iter().zip(&labels).map(|(row, &label)| temperature::log_loss(row, label, t)).sum(), chosen.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Chooses between two steps, the second of which is right about more items, and says what was held out.
    fn chosen(places: &[(usize, Use)], all_folds_below: usize) -> (Chosen, Vec<Vec<usize>>) {
        let places: Vec<Place> = places.iter().map(|&(fold, held_out_for)| Place { fold, held_out_for }).collect();
        let labels: Vec<usize> = (0..places.len()).map(|i| i % 2).collect();
        let rule = Rule { steps: &[1.0, 4.0], patience: 1, all_folds_below };
        let mut held_out = Vec::new();
        let chosen = cross_fit(&labels, &places, rule, |_, out, show| {
            held_out.push(out.to_vec());
            for sure in [-1.0, 1.0] {
                let row = |&i: &usize| if labels[i] == 0 { vec![sure, 0.0] } else { vec![0.0, sure] };
                if show(out.iter().map(row).collect()).is_break() {
                    break;
                }
            }
            Ok::<_, Infallible>(())
        });
        (chosen.unwrap_or_else(|never| match never {}), held_out)
    }

    #[test]
    fn the_one_fold_that_is_held_out_is_the_first_that_can_choose() {
        use Use::{Calibrate, Stop};
        // The first fold, as long as it has an item that chooses.
        let (first, held_out) = chosen(&[(0, Calibrate), (0, Stop), (1, Stop), (1, Stop)], 0);
        assert_eq!((first.step, first.n_stop, first.n_calibrate, held_out), (1, 1, 1, vec![vec![0, 1]]));
        // A first fold without one, and none at all.
        let (second, held_out) = chosen(&[(0, Calibrate), (1, Calibrate), (2, Stop), (3, Stop)], 0);
        assert_eq!((second.step, second.n_stop, held_out), (1, 1, vec![vec![2]]));
        let (absent, held_out) = chosen(&[(3, Stop), (4, Stop), (3, Calibrate)], 0);
        assert_eq!((absent.step, absent.n_stop, absent.n_calibrate, held_out), (1, 1, 1, vec![vec![0, 2]]));
        // Nobody chooses: those that would calibrate do.
        let (none, held_out) = chosen(&[(2, Calibrate), (2, Calibrate), (4, Calibrate)], 0);
        assert_eq!((none.step, none.n_stop, none.n_calibrate, held_out), (1, 2, 0, vec![vec![0, 1]]));
        assert!((none.temperature - 1.0).abs() < 1e-5);
        // With all folds, every part keeps its use.
        let (all, held_out) = chosen(&[(0, Calibrate), (1, Stop), (1, Calibrate)], usize::MAX);
        assert_eq!((all.n_stop, all.n_calibrate, held_out), (1, 2, vec![vec![0], vec![1, 2]]));
    }
}

//! Errors by slice: each value of a field against all other rows, and student against teacher in it.

use super::{LEVEL, metric, rows_needed, share};
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_core::{Error, Result};
use understudy_model::artifact::Metric;
use understudy_stats::{independent, multiplicity, paired};

/// A labelled row: which slice of which field it is in, and who was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The value of each audited field; `None` where the row has none.
    pub slices: Vec<Option<String>>,
    /// Whether the student's answer is wrong.
    pub wrong: bool,
    /// Whether the teacher's is.
    pub teacher_wrong: Option<bool>,
}

/// How strict the audit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Rows below which a slice, or all that is elsewhere, is called too small to judge.
    pub least: u64,
    /// The half-width of an error rate's 95 % interval that "large enough" aims at.
    pub half_width: f64,
    /// Probability with which anything is called different although nothing is.
    pub level: f64,
}

impl Default for Rules {
    /// 50 rows, 5 points, 5 %.
    fn default() -> Self {
        Self { least: 50, half_width: 0.05, level: 0.05 }
    }
}

/// One slice. All intervals are at 95 %, each on its own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// The field.
    pub field: String,
    /// Its value.
    pub name: String,
    /// Rows.
    pub n: u64,
    /// The student's error rate.
    pub errors: Metric,
    /// Its error rate in all other rows.
    pub errors_elsewhere: Metric,
    /// The first minus the second (Newcombe's interval).
    pub difference: Metric,
    /// Fisher's exact test of that difference, after Holm's correction over all slices.
    pub p: f64,
    /// The teacher's error rate in it.
    pub teacher_errors: Option<Metric>,
    /// Student's minus teacher's error rate in it (Tango's interval).
    pub change: Option<Metric>,
    /// McNemar's exact test of that change, after Holm's correction over all slices.
    pub change_p: Option<f64>,
    /// The student errs more in it than elsewhere.
    pub worse: bool,
    /// It errs less in it than elsewhere.
    pub better: bool,
    /// The student errs more in it than the teacher.
    pub worse_than_teacher: bool,
}

/// A slice with too few rows, or with too few elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TooSmall {
    /// The field.
    pub field: String,
    /// Its value.
    pub name: String,
    /// Rows.
    pub n: u64,
    /// Rows after which its error rate would be known as exactly as the rules ask.
    pub needed: u64,
    /// Rows elsewhere, where those are too few to compare it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<u64>,
}

/// The audit of all slices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SliceAudit {
    /// Rows.
    pub n: u64,
    /// Rows without a value, by field.
    pub without: BTreeMap<String, u64>,
    /// The student's error rate.
    pub errors: Metric,
    /// The teacher's.
    pub teacher_errors: Option<Metric>,
    /// Slices with enough rows, the surest excess of errors first.
    pub slices: Vec<Slice>,
    /// Slices with too few, or with too few elsewhere.
    pub too_small: Vec<TooSmall>,
}

/// Counts of one slice and of the rows outside of it.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    n: u64,
    wrong: u64,
    both: u64,
    only_student: u64,
    only_teacher: u64,
}

impl Counts {
    fn add(&mut self, row: &Judged) {
        self.n += 1;
        self.wrong += u64::from(row.wrong);
        if let Some(teacher) = row.teacher_wrong {
            self.both += 1;
            self.only_student += u64::from(row.wrong && !teacher);
            self.only_teacher += u64::from(!row.wrong && teacher);
        }
    }
}

/// Audits the slices of `fields` (in the order of [`Judged::slices`]).
///
/// # Errors
/// `Data` without rows, or when no row has a value in a field.
pub fn audit(fields: &[String], rows: &[Judged], rules: &Rules) -> Result<SliceAudit> {
    let mut all = Counts::default();
    rows.iter().for_each(|row| all.add(row));
    let Some(errors) = share(all.wrong, all.n) else {
        return Err(Error::data("audit slices: there are no labelled rows"));
    };
    let teacher = rows.iter().filter(|row| row.teacher_wrong == Some(true)).count() as u64;
    let mut audit = SliceAudit {
        n: all.n,
        without: BTreeMap::new(),
        errors,
        teacher_errors: share(teacher, all.both),
        slices: Vec::new(),
        too_small: Vec::new(),
    };
    for (at, field) in fields.iter().enumerate() {
        let mut members: BTreeMap<&str, Counts> = BTreeMap::new();
        let mut without = 0;
        for row in rows {
            match row.slices.get(at).and_then(Option::as_deref) {
                Some(name) => members.entry(name).or_default().add(row),
                None => without += 1,
            }
        }
        if members.is_empty() {
            return Err(Error::data(format!("audit slices: no row has a value in `{field}`; check the field's name")));
        }
        audit.without.insert(field.clone(), without);
        for (name, counts) in members {
            let elsewhere = Some(all.n - counts.n).filter(|n| *n < rules.least);
            if counts.n < rules.least || elsewhere.is_some() {
                let needed = rows_needed(errors.estimate, rules.half_width).max(rules.least);
                let (field, name) = (field.clone(), name.to_owned());
                audit.too_small.push(TooSmall { field, name, n: counts.n, needed, elsewhere });
            } else if let Some(slice) = slice(field, name, counts, &all) {
                audit.slices.push(slice);
            }
        }
    }
    judge(&mut audit.slices, rules.level);
    Ok(audit)
}

fn slice(field: &str, name: &str, counts: Counts, all: &Counts) -> Option<Slice> {
    let (wrong, n) = (all.wrong - counts.wrong, all.n - counts.n);
    let paired = |only_a, only_b, both| metric(paired::score_difference(only_a, only_b, both, LEVEL), both);
    let teacher = counts.wrong + counts.only_teacher - counts.only_student;
    let asked = counts.both == counts.n;
    Some(Slice {
        field: field.to_owned(),
        name: name.to_owned(),
        n: counts.n,
        errors: share(counts.wrong, counts.n)?,
        errors_elsewhere: share(wrong, n)?,
        difference: metric(independent::difference(counts.wrong, counts.n, wrong, n, LEVEL), counts.n),
        p: independent::fisher(counts.wrong, counts.n, wrong, n),
        teacher_errors: if asked { share(teacher, counts.n) } else { None },
        // Second minus first of what is counted, which is errors here.
        change: asked.then(|| paired(counts.only_teacher, counts.only_student, counts.n)),
        change_p: asked.then(|| paired::mcnemar(counts.only_teacher, counts.only_student)),
        worse: false,
        better: false,
        worse_than_teacher: false,
    })
}

/// Holm's correction over all slices, once for each of the two questions.
fn judge(slices: &mut [Slice], level: f64) {
    let adjusted = multiplicity::holm(&slices.iter().map(|slice| slice.p).collect::<Vec<_>>());
    let changed = multiplicity::holm(&slices.iter().filter_map(|slice| slice.change_p).collect::<Vec<_>>());
    let mut changed = changed.into_iter();
    for (slice, p) in slices.iter_mut().zip(adjusted) {
        slice.p = p;
        slice.worse = p <= level && slice.difference.estimate > 0.0;
        slice.better = p <= level && slice.difference.estimate < 0.0;
        if slice.change_p.is_some() {
            slice.change_p = changed.next();
        }
        let worse = slice.change.is_some_and(|change| change.estimate > 0.0);
        slice.worse_than_teacher = worse && slice.change_p.is_some_and(|p| p <= level);
    }
    slices.sort_by(|a, b| {
        b.worse.cmp(&a.worse).then(a.p.total_cmp(&b.p)).then(b.difference.estimate.total_cmp(&a.difference.estimate))
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    fn rows(n: usize, rate: impl Fn(usize) -> f64, seed: u64) -> Vec<Judged> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..n)
            .map(|i| {
                let wrong = rng.random::<f64>() < rate(i % 4);
                let teacher_wrong = Some(rng.random::<f64>() < 0.1);
                Judged { slices: vec![Some(format!("group {}", i % 4))], wrong, teacher_wrong }
            })
            .collect()
    }

    #[test]
    fn a_slice_that_errs_more_is_named_and_only_that_one() {
        let rows = rows(4000, |group| if group == 2 { 0.3 } else { 0.1 }, 1);
        let audit = audit(&["who".into()], &rows, &Rules::default()).expect("valid");
        let worse: Vec<&str> = audit.slices.iter().filter(|s| s.worse).map(|s| s.name.as_str()).collect();
        assert_eq!(worse, ["group 2"]);
        let slice = &audit.slices[0];
        assert!(slice.worse_than_teacher && slice.change.is_some_and(|c| c.low > 0.1 && c.high < 0.3));
        assert_eq!((slice.n, audit.slices.len()), (1000, 4));
        assert!((slice.errors.estimate - 0.3).abs() < 0.04 && slice.difference.low > 0.1);
        let teacher = slice.teacher_errors.expect("asked").estimate;
        assert!((slice.errors.estimate - teacher - slice.change.expect("asked").estimate).abs() < 1e-12);
    }

    #[test]
    fn equal_slices_are_called_different_no_more_often_than_the_level() {
        let called = |seed| {
            let audit = audit(&["who".into()], &rows(1200, |_| 0.1, seed), &Rules::default()).expect("valid");
            u32::from(audit.slices.iter().any(|s| s.worse || s.worse_than_teacher))
        };
        let wrong: u32 = (0..200).map(called).sum();
        println!("{wrong} of 200 audits of equal slices call one worse (two questions at 5 % each, one-sided)");
        assert!(wrong <= 18, "{wrong}");
    }

    #[test]
    fn small_slices_are_named_with_what_they_lack() {
        let mut rows = rows(400, |_| 0.1, 3);
        rows.extend((0..7).map(|_| Judged { slices: vec![Some("rare".into())], wrong: true, teacher_wrong: None }));
        rows.push(Judged { slices: vec![None], wrong: false, teacher_wrong: None });
        let audit = audit(&["who".into()], &rows, &Rules::default()).expect("valid");
        assert_eq!(audit.too_small.len(), 1);
        let rare = &audit.too_small[0];
        assert!(rare.name == "rare" && rare.n == 7 && rare.needed > 100 && rare.elsewhere.is_none());
        assert_eq!(audit.without["who"], 1);
        let error = super::audit(&["sex".into()], &rows[..0], &Rules::default()).expect_err("nothing to audit");
        assert!(error.to_string().contains("no labelled rows"), "{error}");
    }

    #[test]
    fn a_large_slice_with_little_elsewhere_is_said_to_have_nothing_to_be_compared_with() {
        let row = |i: usize| Judged {
            slices: vec![Some(if i < 7 { "rare" } else { "common" }.into())],
            wrong: i.is_multiple_of(3),
            teacher_wrong: None,
        };
        let rows: Vec<Judged> = (0..400).map(row).collect();
        let audit = audit(&["who".into()], &rows, &Rules::default()).expect("valid");
        let found: Vec<_> = audit.too_small.iter().map(|s| (s.name.as_str(), s.n, s.elsewhere)).collect();
        assert_eq!(found, [("common", 393, Some(7)), ("rare", 7, None)]);
    }
}

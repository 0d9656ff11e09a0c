//! Static embeddings for a task: an encoder's knowledge of words as a table, tuned to the team's texts under a teacher.
//!
//! 1. *Table*: what the encoder makes of each token of its vocabulary alone (the caller runs the encoder).
//! 2. *PCA and SIF* ([`compress`]): the principal directions of the table, and frequent tokens weighted down (Arora et
//!    al., *A Simple but Tough-to-Beat Baseline for Sentence Embeddings*, 2017), as in model2vec.
//! 3. *Tuning* ([`CheckedTableParams::fit`]): the rows that the texts use are trained together with the head, under
//!    the labels and the teacher's soft labels; pairs of neighbouring tokens get rows of their own, which begin at 0.
//!
//! The tuning is in [`tune`]; what is held out and the temperature are as for every other method ([`crate::cross_fit`]).

mod tune;

use crate::{
    cross_fit::{Rule, Unseen, cross_fit},
    head::{FittedHead, check_labels},
    matrix::Matrix,
    words::LabelledTexts,
};
use safetensors::tensor::{Dtype as TensorType, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tune::{Lesson, Tuned};
use understudy_core::{Error, Result, Seed};
use understudy_kernels::{Activation, Dtype, Linear, LinearScratch};
use understudy_learn::eigen;
use understudy_model::{
    head::Head,
    table::{self, Pairs, pair},
    wordpiece::Pieces,
};

/// How to make and tune a table, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TableParams {
    /// Length of the vectors.
    pub width: usize,
    /// Frequency at which a token has half its weight; 0 leaves weights alone.
    pub sif: f64,
    /// Texts that must have had a pair of neighbours for it to get a row; 0 makes none. They gain little (0.2 points on
    /// Banking77, nothing on CLINC150), and model2vec does not read them.
    pub pairs_from: u32,
    /// Passes over the texts.
    pub passes: usize,
    /// Fewest steps of the optimiser: small data sets get more passes.
    pub least_steps: usize,
    /// Step size of the table's rows; the head's is three times this.
    pub rate: f64,
    /// Share of a text's rows that are left out of each step.
    pub dropout: f64,
    /// Weight of the teacher's soft labels against the labels, in [0, 1].
    pub teacher: f64,
    /// Tokens after which a text is cut.
    pub max_tokens: usize,
    /// Below this number of examples every fold is held out in turn; from it on, one fold is enough.
    pub cross_fit_below: usize,
}

impl Default for TableParams {
    fn default() -> Self {
        Self {
            width: 256,
            sif: 1e-4,
            pairs_from: 0,
            passes: 12,
            least_steps: 1200,
            rate: 0.003,
            dropout: 0.2,
            teacher: 0.5,
            max_tokens: 512,
            cross_fit_below: 2000,
        }
    }
}

/// Parameters that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedTableParams(TableParams);

/// A tuned table and the head on it.
#[derive(Debug, Clone)]
pub struct FittedTable {
    /// One row for each token, then one for each pair.
    pub vectors: Vec<f32>,
    /// Length of a row.
    pub width: usize,
    /// The pairs.
    pub pairs: Pairs,
    /// [`TableParams::sif`] of the table that tuning began with.
    pub sif: f64,
    /// The head, and how it came about.
    pub fitted: FittedHead,
    /// What models that had not seen an item say about it.
    pub unseen: Unseen,
}

/// A table before tuning.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// One row for each token.
    pub vectors: Matrix,
    /// Share of the variance of the encoder's token vectors that is left, in [0, 1].
    pub variance_kept: f64,
}

impl TableParams {
    /// Checks the parameters.
    ///
    /// # Errors
    /// `Invalid`, naming the field at fault.
    pub fn check(self) -> Result<CheckedTableParams> {
        let wrong = |field: &str, what: &str| {
            Err(Error::invalid(format!("use table parameter `{field}`: {what}")).with_param(field))
        };
        if self.width == 0 || self.passes == 0 || self.max_tokens == 0 {
            return wrong("width, passes, max_tokens", "they must be at least 1");
        }
        if !(self.sif.is_finite() && self.sif >= 0.0) {
            return wrong("sif", "it must be a number of at least 0");
        }
        if !(self.rate.is_finite() && self.rate > 0.0) {
            return wrong("rate", "it must be a positive number");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return wrong("dropout", "it must be in [0, 1)");
        }
        if !(0.0..=1.0).contains(&self.teacher) {
            return wrong("teacher", "it must be in [0, 1]");
        }
        Ok(CheckedTableParams(self))
    }
}

impl CheckedTableParams {
    /// Compresses the encoder's token vectors, one row for each token of the vocabulary.
    ///
    /// # Errors
    /// `Invalid` when there are none.
    pub fn compress(&self, tokens: &Matrix) -> Result<Compressed> {
        compress(tokens, self.0.width, self.0.sif)
    }

    /// Tunes the table to the texts. `soft` has the teacher's probabilities of each text's classes, one row for each.
    ///
    /// # Errors
    /// `Invalid` when lengths differ, a label is out of range or there are fewer than two classes with examples;
    /// `Data` when a text cannot be tokenised.
    pub fn fit(
        &self,
        data: LabelledTexts<'_>,
        soft: Option<&Matrix>,
        table: &Matrix,
        pieces: &Pieces,
        seed: Seed,
    ) -> Result<FittedTable> {
        let (n, classes) = (data.texts.len(), data.classes.len());
        if data.labels.len() != n || data.places.len() != n || soft.is_some_and(|soft| soft.rows() != n) {
            return Err(Error::invalid("tune table: texts, labels, places and soft labels differ in number"));
        }
        if table.rows() != pieces.vocabulary() || soft.is_some_and(|soft| soft.columns() != classes) {
            return Err(Error::invalid("tune table: one row for each token and one soft label for each class"));
        }
        check_labels(data.labels, classes)?;
        let ids = |text: &&str| table::rows(pieces, &Pairs::default(), text, self.0.max_tokens).map(|(ids, ..)| ids);
        let ids = data.texts.iter().map(ids).collect::<Result<Vec<_>>>()?;
        let tune = |chosen: &[usize]| {
            let pairs = self.pairs(chosen.iter().map(|&i| ids[i].as_slice()));
            let rows = |i: usize| {
                let mut rows = ids[i].clone();
                pairs.rows(&ids[i], u32::try_from(table.rows()).unwrap_or(u32::MAX), &mut rows);
                rows
            };
            let lesson = Lesson {
                rows: chosen.iter().map(|&i| rows(i)).collect(),
                labels: chosen.iter().map(|&i| data.labels[i]).collect(),
                soft: soft.map(|soft| chosen.iter().map(|&i| soft.row(i)).collect()),
                classes,
            };
            let tuned = tune::tune(&lesson, table, pairs.keys().len(), &self.0, seed.derive("table"));
            (tuned, pairs)
        };
        let rule = Rule { steps: &[self.0.passes as f64], patience: 1, all_folds_below: self.0.cross_fit_below };
        let chosen = cross_fit(data.labels, data.places, rule, |rest, out, show| {
            let (tuned, pairs) = tune(rest);
            let logits = |&i: &usize| {
                let mut rows = ids[i].clone();
                pairs.rows(&ids[i], u32::try_from(table.rows()).unwrap_or(u32::MAX), &mut rows);
                tuned.logits(&rows)
            };
            // The path has one step.
            let _ = show(out.iter().map(logits).collect());
            Ok::<_, Error>(())
        })?;
        let (Tuned { vectors, weights, bias, .. }, pairs) = tune(&(0..n).collect::<Vec<_>>());
        let head = Head::new(data.classes.to_vec(), weights, bias, chosen.temperature)?;
        let (fitted, unseen) = FittedHead::of(head, n, chosen);
        Ok(FittedTable { vectors, width: table.columns(), pairs, sif: self.0.sif, fitted, unseen })
    }

    /// Pairs of neighbours that enough texts have.
    fn pairs<'t>(&self, texts: impl Iterator<Item = &'t [u32]>) -> Pairs {
        if self.0.pairs_from == 0 {
            return Pairs::default();
        }
        let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
        let mut here = Vec::new();
        for ids in texts {
            here.clear();
            let mut left = table::BEGIN;
            for right in ids.iter().copied().chain([table::END]) {
                here.push(pair(left, right));
                left = right;
            }
            here.sort_unstable();
            here.dedup();
            here.iter().for_each(|key| *seen.entry(*key).or_insert(0) += 1);
        }
        Pairs::new(seen.into_iter().filter(|(_, count)| *count >= self.0.pairs_from).map(|(key, _)| key).collect())
    }
}

/// Projects rows on their `width` first principal directions and weights token `i` by `sif / (sif + p)`, where p is
/// the frequency that Zipf's law gives rank `i` (vocabularies are sorted by frequency, about). The mean square of a row
/// is then brought to 1.
///
/// # Errors
/// `Invalid` when there are no rows.
pub fn compress(tokens: &Matrix, width: usize, sif: f64) -> Result<Compressed> {
    let (n, d) = (tokens.rows(), tokens.columns());
    if n == 0 {
        return Err(Error::invalid("compress token table: there are no tokens"));
    }
    let width = width.min(d);
    let mut mean = vec![0.0_f64; d];
    for row in 0..n {
        mean.iter_mut().zip(tokens.row(row)).for_each(|(sum, x)| *sum += f64::from(*x) / n as f64);
    }
    let centred: Vec<f32> = (0..n)
        .flat_map(|row| tokens.row(row).iter().zip(&mean).map(|(x, mean)| narrow(f64::from(*x) - mean)))
        .collect();
    let covariance = covariance(&centred, d);
    let total: f64 = (0..d).map(|i| covariance[i * d + i]).sum();
    let (values, directions) = eigen::symmetric(covariance, d);
    let weights: Vec<f32> = directions[..width * d].iter().map(|x| narrow(*x)).collect();
    let projection = Linear::new(&weights, &vec![0.0; width], Dtype::F32);
    let mut vectors = vec![0.0; n * width];
    projection.forward(&centred, Activation::Identity, &mut vectors, &mut LinearScratch::default());
    let harmonic: f64 = (1..=n).map(|rank| 1.0 / rank as f64).sum();
    for (rank, row) in vectors.chunks_exact_mut(width).enumerate() {
        let frequency = 1.0 / ((rank + 2) as f64 * harmonic);
        let weight = if sif > 0.0 { narrow(sif / (sif + frequency)) } else { 1.0 };
        row.iter_mut().for_each(|x| *x *= weight);
    }
    let square = vectors.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / n as f64;
    let scale = narrow(1.0 / square.sqrt().max(1e-12));
    vectors.iter_mut().for_each(|x| *x *= scale);
    let kept = if total > 0.0 { values[..width].iter().sum::<f64>() / total } else { 1.0 };
    Ok(Compressed { vectors: Matrix::new(width, vectors)?, variance_kept: kept.min(1.0) })
}

/// XᵀX / n of rows of `d`, by products of blocks.
fn covariance(rows: &[f32], d: usize) -> Vec<f64> {
    let n = (rows.len() / d) as f64;
    let mut sum = vec![0.0; d * d];
    let mut out = vec![0.0; d * d];
    for block in rows.chunks(2048 * d) {
        let length = block.len() / d;
        let mut columns = vec![0.0; block.len()];
        for (r, row) in block.chunks_exact(d).enumerate() {
            row.iter().enumerate().for_each(|(c, x)| columns[c * length + r] = *x);
        }
        let product = Linear::new(&columns, &vec![0.0; d], Dtype::F32);
        product.forward(&columns, Activation::Identity, &mut out, &mut LinearScratch::default());
        sum.iter_mut().zip(&out).for_each(|(sum, x)| *sum += f64::from(*x) / n);
    }
    // Rounding leaves the halves a little apart.
    for i in 0..d {
        for j in 0..i {
            let mean = f64::midpoint(sum[i * d + j], sum[j * d + i]);
            (sum[i * d + j], sum[j * d + i]) = (mean, mean);
        }
    }
    sum
}

#[expect(clippy::cast_possible_truncation, reason = "vectors of seven digits are enough")]
fn narrow(x: f64) -> f32 {
    x as f32
}

/// The table's files for an artifact, in model2vec's layout. `tokenizer` holds the bytes of the encoder's.
///
/// # Errors
/// `Internal` when they cannot be encoded.
pub fn encode(fitted: &FittedTable, tokenizer: Vec<u8>, teacher: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let failed = |e: &dyn std::fmt::Display| Error::internal(format!("encode token table: {e}"));
    let rows = fitted.vectors.len() / fitted.width;
    let tokens = rows - fitted.pairs.keys().len();
    let bytes: Vec<u8> = fitted.vectors.iter().flat_map(|x| x.to_le_bytes()).collect();
    let (of_tokens, of_pairs) = bytes.split_at(tokens * fitted.width * 4);
    let view = |rows: usize, bytes| TensorView::new(TensorType::F32, vec![rows, fitted.width], bytes);
    let vectors = view(tokens, of_tokens).map_err(|e| failed(&e))?;
    let vectors = safetensors::serialize([(table::EMBEDDINGS, vectors)], None).map_err(|e| failed(&e))?;
    let sif = Some(fitted.sif).filter(|sif| *sif > 0.0);
    let config = serde_json::json!({
        "model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": teacher,
        "apply_pca": fitted.width, "apply_zipf": sif.is_some(), "sif_coefficient": sif, "hidden_dim": fitted.width,
        "seq_length": 1_000_000, "normalize": true
    });
    let mut files = BTreeMap::from([
        (table::VECTORS.to_owned(), vectors),
        (table::TOKENIZER.to_owned(), tokenizer),
        ("config.json".to_owned(), format!("{config:#}\n").into_bytes()),
    ]);
    if tokens < rows {
        let keys: Vec<u8> = fitted.pairs.keys().iter().flat_map(|key| key.to_le_bytes()).collect();
        let keys = TensorView::new(TensorType::U64, vec![rows - tokens], &keys).map_err(|e| failed(&e))?;
        let vectors = view(rows - tokens, of_pairs).map_err(|e| failed(&e))?;
        let pairs = safetensors::serialize([("pairs", keys), (table::EMBEDDINGS, vectors)], None);
        files.insert(table::PAIRS.to_owned(), pairs.map_err(|e| failed(&e))?);
    }
    Ok(files)
}

#[cfg(test)]
mod tests;

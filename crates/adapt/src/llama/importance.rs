//! How much each column of the linear layers' weights counts: the mean square of what it is multiplied with, over the
//! tokens of given texts. What llama.cpp's quantiser calls an importance matrix.

use crate::llama::batch::{Batch, Example};
use crate::llama::network::LlamaNetwork;
use crate::llama::pass::Pass;
use std::ops::ControlFlow;
use understudy_model::generate::Importance;

/// What reads the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// Queries, keys and values.
    Attention,
    /// The projection after attention.
    Attended,
    /// Gates and ups.
    Feed,
    /// The way back.
    Inner,
    /// The scores of the vocabulary.
    Output,
}

impl Read {
    fn slot(self, depth: usize) -> usize {
        4 * depth + self as usize
    }
}

/// Sums of squares of columns.
#[derive(Debug, Default, Clone)]
pub(crate) struct Squares {
    sums: Vec<(Vec<f64>, u64)>,
    widths: Vec<usize>,
}

impl Squares {
    fn new(network: &LlamaNetwork) -> Self {
        let (c, mut widths) = (&network.config, Vec::new());
        for _ in 0..c.layers {
            widths.extend([c.width, c.heads * c.head_width, c.width, c.inner]);
        }
        // Slot 4 · layers: what the output reads.
        widths.push(c.width);
        Self { sums: widths.iter().map(|width| (vec![0.0; *width], 0)).collect(), widths }
    }

    /// Adds rows of a layer.
    pub(crate) fn add(&mut self, depth: usize, read: Read, rows: &[f32]) {
        let slot = if read == Read::Output { self.widths.len() - 1 } else { read.slot(depth) };
        let (sums, count) = &mut self.sums[slot];
        for row in rows.chunks_exact(self.widths[slot]) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
            *count += 1;
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the quantiser takes f32")]
    fn mean(&self, slot: usize) -> Vec<f32> {
        let (sums, count) = &self.sums[slot];
        sums.iter().map(|sum| (sum / (*count).max(1) as f64) as f32).collect()
    }
}

impl LlamaNetwork {
    /// The importance of all columns over the tokens of `examples`; those that score the vocabulary over the rows before
    /// the answers' tokens, because only these decide anything. `each` is called after every example and may stop early.
    pub fn importance(&self, examples: &[Example], mut each: impl FnMut() -> ControlFlow<()>) -> Importance {
        let mut pass = Pass { squares: Some(Squares::new(self)), ..Pass::default() };
        for example in examples {
            let batch = Batch::new([example]);
            self.forward(&batch, &mut pass);
            self.pick(&batch, &mut pass);
            let picked = batch.targets() * self.config.width;
            if let Some(squares) = &mut pass.squares {
                squares.add(0, Read::Output, &pass.picked_normed[..picked]);
            }
            if each().is_break() {
                break;
            }
        }
        let squares = pass.squares.expect("it was put there");
        let mut all = Importance::new();
        for layer in 0..self.config.layers {
            for (read, names) in [
                (Read::Attention, ["attn_q", "attn_k", "attn_v"].as_slice()),
                (Read::Attended, &["attn_output"]),
                (Read::Feed, &["ffn_gate", "ffn_up"]),
                (Read::Inner, &["ffn_down"]),
            ] {
                let mean = squares.mean(read.slot(layer));
                all.extend(names.iter().map(|name| (format!("blk.{layer}.{name}.weight"), mean.clone())));
            }
        }
        // Where the table of tokens also scores, its columns count by what they score.
        let scores = if self.output.is_some() { "output.weight" } else { "token_embd.weight" };
        all.insert(scores.to_owned(), squares.mean(squares.widths.len() - 1));
        all
    }
}

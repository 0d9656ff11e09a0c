//! Buffers of one pass.

use crate::device::Device;
use crate::encoder::Gradients;
use crate::llama::batch::Batch;
use crate::llama::dense::Thin;
use crate::llama::importance::Squares;
use crate::llama::network::LlamaNetwork;
use understudy_core::{Error, Result};
use understudy_kernels::train::Loss;

/// What one layer keeps for its backward pass.
#[derive(Default)]
pub(crate) struct LayerState {
    pub(crate) attention_rows: Vec<f32>,
    pub(crate) attention_scales: Vec<f32>,
    /// Queries and keys rotated.
    pub(crate) qkv: Vec<f32>,
    pub(crate) attended: Vec<f32>,
    pub(crate) feed_rows: Vec<f32>,
    pub(crate) feed_scales: Vec<f32>,
    pub(crate) gate_up: Vec<f32>,
}

/// Buffers that passes of any size share; they grow to the largest.
#[derive(Default)]
pub struct Pass {
    pub(crate) layers: Vec<LayerState>,
    /// The rows between layers; on the way back their gradient.
    pub(crate) stream: Vec<f32>,
    pub(crate) normed: Vec<f32>,
    pub(crate) wide: Vec<f32>,
    pub(crate) wide_grad: Vec<f32>,
    pub(crate) narrow: Vec<f32>,
    pub(crate) thin: Thin,
    pub(crate) picked: Vec<f32>,
    pub(crate) picked_rows: Vec<f32>,
    pub(crate) picked_scales: Vec<f32>,
    pub(crate) picked_normed: Vec<f32>,
    pub(crate) picked_grad: Vec<f32>,
    pub(crate) logits: Vec<f32>,
    pub(crate) logits_grad: Vec<f32>,
    /// What the linear layers read, where it is wanted.
    pub(crate) squares: Option<Squares>,
    /// Computes losses and gradients in place of what is above.
    pub(crate) elsewhere: Option<Box<dyn Passes>>,
}

/// A model's passes, computed somewhere else. Where they fail a loss is no number, and [`Passes::trouble`] says why.
pub(crate) trait Passes: Send {
    /// As [`LlamaNetwork::loss`].
    fn loss(&mut self, network: &LlamaNetwork, batch: &Batch) -> (Loss, u64);

    /// As [`LlamaNetwork::loss_and_gradients`].
    fn learn(&mut self, network: &LlamaNetwork, batch: &Batch, scale: f64, gradients: &mut Gradients) -> Loss;

    /// What went wrong since this was asked last.
    fn trouble(&mut self) -> Option<Error>;
}

impl Pass {
    /// Buffers of passes that are computed on a device.
    ///
    /// # Errors
    /// `Invalid` when this build has no such device, `Unavailable` when there is none.
    pub fn on(device: Device) -> Result<Self> {
        device.check()?;
        #[cfg(feature = "candle")]
        let elsewhere = super::elsewhere::Elsewhere::open(device)?.map(|on| Box::new(on) as Box<dyn Passes>);
        #[cfg(not(feature = "candle"))]
        let elsewhere = None;
        Ok(Self { elsewhere, ..Self::default() })
    }

    /// What went wrong on the device since this was asked last; the numbers since then are none.
    pub fn trouble(&mut self) -> Option<Error> {
        self.elsewhere.as_mut().and_then(|elsewhere| elsewhere.trouble())
    }
}

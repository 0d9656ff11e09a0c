//! A network's numbers on a device, and what all kinds of networks need there.

use super::Device;
use crate::encoder::{Gradients, Parameter};
use candle_core::{D, Device as Candle, Error as CandleError, Result as CandleResult, Tensor, Var};
use understudy_core::{Error, Result};

/// The parameters of a network on a device.
pub(crate) struct Store {
    name: Device,
    pub(crate) device: Candle,
    /// By parameter; none for those that stay here.
    held: Vec<Option<Held>>,
    /// Which state of the network they are of.
    version: Option<u64>,
    failed: Option<Error>,
}

enum Held {
    Frozen(Tensor),
    Trained(Var),
}

impl Store {
    /// Opens a device; `None` for the kernels here.
    ///
    /// # Errors
    /// `Invalid` when this build has no such device, `Unavailable` when there is none.
    pub(crate) fn open(name: Device) -> Result<Option<Self>> {
        name.check()?;
        let device = match name {
            Device::Cpu => return Ok(None),
            Device::Candle => Ok(Candle::Cpu),
            Device::Cuda(n) => Candle::new_cuda(n),
            Device::Metal(n) => Candle::new_metal(n),
        };
        let device = device.map_err(|e| {
            let what = first_line(&e);
            Error::unavailable(format!(
                "train on `{name}`: {what}; is there such a device, and its driver? `cpu` needs none"
            ))
        })?;
        Ok(Some(Self { name, device, held: Vec::new(), version: None, failed: None }))
    }

    /// Brings over what changed since the last pass: all that is `wanted` at first, then what is trained of it.
    pub(crate) fn bring(
        &mut self,
        parameters: &[Parameter],
        version: u64,
        wanted: impl Fn(&Parameter) -> bool,
    ) -> CandleResult<()> {
        if self.version == Some(version) {
            return Ok(());
        }
        let numbers = |p: &Parameter| {
            // Its parts are rows of one tensor.
            let mut shape = p.shape().to_vec();
            shape[0] *= p.names().len();
            Tensor::from_slice(p.values(), shape, &self.device)
        };
        if self.version.is_none() {
            let hold = |p: &Parameter| -> CandleResult<Option<Held>> {
                if !wanted(p) {
                    return Ok(None);
                }
                let numbers = numbers(p)?;
                Ok(Some(if p.trained() { Held::Trained(Var::from_tensor(&numbers)?) } else { Held::Frozen(numbers) }))
            };
            self.held = parameters.iter().map(hold).collect::<CandleResult<_>>()?;
        } else {
            for (held, p) in self.held.iter().zip(parameters) {
                if let Some(Held::Trained(variable)) = held {
                    variable.set(&numbers(p)?)?;
                }
            }
        }
        self.version = Some(version);
        Ok(())
    }

    /// A parameter that was brought over.
    pub(crate) fn tensor(&self, index: usize) -> &Tensor {
        match self.held[index].as_ref().expect("a parameter that was wanted") {
            Held::Frozen(tensor) => tensor,
            Held::Trained(variable) => variable.as_tensor(),
        }
    }

    /// Adds the gradients of `rows`, given that of what is made of them (in the same shape). Candle says nothing where an
    /// operation has no gradient: a trained parameter without one is an error.
    pub(crate) fn backward(
        &self,
        (rows, grad): (&Tensor, &Tensor),
        parameters: &[Parameter],
        gradients: &mut Gradients,
    ) -> CandleResult<()> {
        let found = (rows * grad)?.sum_all()?.backward()?;
        for (index, held) in self.held.iter().enumerate() {
            let Some(Held::Trained(variable)) = held else { continue };
            let name = || parameters[index].names()[0].clone();
            let of = found.get(variable).ok_or_else(|| CandleError::msg(format!("{} got no gradient", name())))?;
            let of = of.flatten_all()?.to_vec1::<f32>()?;
            gradients.sum(index).iter_mut().zip(of).for_each(|(sum, g)| *sum += g);
        }
        Ok(())
    }

    /// Keeps what went wrong until somebody asks.
    pub(crate) fn fail(&mut self, e: &CandleError) {
        let (what, name) = (first_line(e), self.name);
        let remedy = "if memory is short, take a smaller --batch or --max-tokens";
        self.failed.get_or_insert_with(|| Error::internal(format!("compute on `{name}`: {what}; {remedy}")));
    }

    /// What went wrong since this was asked last.
    pub(crate) fn trouble(&mut self) -> Option<Error> {
        self.failed.take()
    }
}

/// What it says, without the trace.
fn first_line(e: &CandleError) -> String {
    e.to_string().lines().next().unwrap_or_default().to_owned()
}

/// Over the last dimension. Candle's own has no gradient.
pub(crate) fn softmax(scores: &Tensor) -> CandleResult<Tensor> {
    let most = scores.max_keepdim(D::Minus1)?.detach();
    let powers = scores.broadcast_sub(&most)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)
}

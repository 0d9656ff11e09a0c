//! Where an encoder's layers are computed while it is trained: by the kernels here, or on a device that candle knows.
//!
//! Only the layers move. Their states come back to the head, the losses and the optimiser, which are the same for all
//! devices; and what is dropped is decided by the same hash. So one run differs from another device's by rounding alone.

#[cfg(feature = "candle")]
mod layers;
#[cfg(feature = "candle")]
mod layout;
#[cfg(all(test, feature = "candle"))]
mod tests;

#[cfg(feature = "candle")]
pub(crate) use layers::Elsewhere;

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use understudy_core::{Error, Result};

/// Where layers are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// By the kernels of this crate. The result is the same to the bit, whatever the number of threads.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number; in builds with the feature `cuda`.
    Cuda(usize),
    /// An Apple GPU, by its number; in builds with the feature `metal`.
    Metal(usize),
    /// The CPU through candle, in builds with the feature `candle`: to check the way that GPUs go.
    Candle,
}

impl Device {
    /// The GPU that this build is for, else the CPU.
    #[must_use]
    pub fn best() -> Self {
        if cfg!(feature = "cuda") {
            Self::Cuda(0)
        } else if cfg!(feature = "metal") {
            Self::Metal(0)
        } else {
            Self::Cpu
        }
    }

    /// Says why this build cannot compute there.
    ///
    /// # Errors
    /// `Invalid`, naming the feature that it was built without.
    pub fn check(self) -> Result<()> {
        let (there, feature) = match self {
            Self::Cpu => return Ok(()),
            Self::Cuda(_) => (cfg!(feature = "cuda"), "cuda"),
            Self::Metal(_) => (cfg!(feature = "metal"), "metal"),
            Self::Candle => (cfg!(feature = "candle"), "candle"),
        };
        if there {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "train on `{self}`: this build has no such device; build it with `cargo build --release --features {feature}`, \
             or train on `cpu`"
        ))
        .with_param("device"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
            Self::Metal(n) => write!(f, "metal:{n}"),
            Self::Candle => f.write_str("candle"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, number) = text.split_once(':').unwrap_or((text, "0"));
        match (name, number.parse::<usize>(), text.contains(':')) {
            ("auto", _, false) => Ok(Self::best()),
            ("cpu", _, false) => Ok(Self::Cpu),
            ("candle", _, false) => Ok(Self::Candle),
            ("cuda", Ok(n), _) => Ok(Self::Cuda(n)),
            ("metal", Ok(n), _) => Ok(Self::Metal(n)),
            _ => Err("it is `auto`, `cpu`, `cuda`, `metal`, or one of the last two with a number: `cuda:1`".to_owned()),
        }
    }
}

/// In builds without candle there is nowhere else, and nothing of this type.
#[cfg(not(feature = "candle"))]
pub(crate) enum Elsewhere {}

#[cfg(not(feature = "candle"))]
mod nowhere {
    use super::{Device, Elsewhere};
    use crate::encoder::{Batch, Gradients, Network, Noise};
    use understudy_core::{Error, Result};

    impl Elsewhere {
        pub(crate) fn open(device: Device) -> Result<Option<Self>> {
            device.check().map(|()| None)
        }

        pub(crate) fn encode(&mut self, _: &Network, _: &Batch<'_>, _: Option<&Noise>, _: &mut Vec<f32>) {
            match *self {}
        }

        pub(crate) fn backward(&mut self, _: &Network, _: &[f32], _: &mut Gradients) {
            match *self {}
        }

        pub(crate) fn trouble(&mut self) -> Option<Error> {
            match *self {}
        }
    }
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn a_device_is_named_as_it_is_shown() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(3), Device::Metal(1), Device::Candle] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        assert_eq!("auto".parse(), Ok(Device::best()));
        for wrong in ["", "gpu", "cpu:1", "auto:0", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_build_without_a_device_says_how_to_get_one() {
        assert!(Device::Cpu.check().is_ok());
        if !cfg!(feature = "cuda") {
            let told = Device::Cuda(0).check().unwrap_err().to_string();
            assert!(told.contains("--features cuda"), "{told}");
        }
    }
}

//! Where networks are computed while they are trained: by the kernels here, or on a device that candle knows.
//!
//! Only the passes move. Data, dropout (by the same hash), optimiser, checkpoints and artifacts are the same for all devices,
//! so that runs on two of them differ by rounding alone; but rounding they do, and only the CPU's is the same every time.

#[cfg(feature = "candle")]
mod layout;
#[cfg(feature = "candle")]
mod store;

#[cfg(feature = "candle")]
pub(crate) use layout::Layout;
#[cfg(feature = "candle")]
pub(crate) use store::{Store, softmax};

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use understudy_core::{Error, Result};

/// Where passes are computed.
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

    /// What an artifact says of it; `None` for the CPU, whose numbers are the same every time.
    #[must_use]
    pub fn noted(self) -> Option<String> {
        (self != Self::Cpu).then(|| self.to_string())
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

#[cfg(test)]
mod tests {
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

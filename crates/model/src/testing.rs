//! What tests of several modules share.

use crate::encoder::{Encoder, EncoderOptions};
use crate::service::{EncoderService, ServiceOptions};
use std::{path::Path, sync::Arc};

/// A small encoder of random numbers.
pub(crate) fn service() -> Arc<EncoderService> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder/bert");
    let encoder = Encoder::load(Path::new(dir), &EncoderOptions::default()).expect("the folder holds one");
    Arc::new(EncoderService::start(encoder, ServiceOptions { threads: 1, ..ServiceOptions::default() }))
}

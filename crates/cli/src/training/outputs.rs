//! What trainings have in common whose heads have outputs of their own kind (labellers, regressors): the network, its
//! training, the encoder as it serves, and what that makes of texts.

use super::run::{checkpoint_path, path, serving, watched};
use super::tuned::Tuning;
use super::{Method, TrainOptions, encoder_named};
use indicatif::ProgressBar;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use understudy_adapt::{
    artifact::{self, Provenance},
    encoder::{Example as Ids, HeadShape, Level, Network, NetworkOptions, Scope},
    finetune::{Data, Run},
    head::{FittedHead, PathStep},
};
use understudy_core::{Error, Result};
use understudy_dataset::Learned;
use understudy_model::{
    artifact::{Artifact, BaseModel, Body, Kind, Metric, Pooling},
    encoder::{Encoder, Scratch},
    head::Head,
};

/// Texts that are embedded together.
const PASS: usize = 32;

/// What `what` (lists, numbers) can be learned with.
///
/// # Errors
/// `Invalid` for the other methods.
pub(super) fn check(options: &TrainOptions, what: &str) -> Result<()> {
    if !matches!(options.method, Method::Lora | Method::Full | Method::Head) {
        let what = format!("train on {what}: take --method head, lora or full; the others learn one label a text");
        return Err(Error::invalid(what).with_param("method"));
    }
    if !(0.0..=0.9).contains(&options.test_share) {
        return Err(Error::invalid(format!("train: a test share of {} is not in [0, 0.9]", options.test_share)));
    }
    Ok(())
}

/// The encoder with a head that has so many outputs, and the options with as many tokens as it reads.
pub(super) fn network(outputs: usize, tuning: &Tuning, options: TrainOptions) -> Result<(Network, TrainOptions)> {
    let scope = match options.method {
        Method::Lora => Scope::Lora(tuning.lora.clone()),
        Method::Head => Scope::Head,
        _ => Scope::Full { words: false, frozen_layers: 0 },
    };
    let head = HeadShape { outputs, hidden: None, level: Level::UnitVector };
    let folder = encoder_named(&options)?;
    let network = Network::load(folder.dir(), &NetworkOptions { scope, head, seed: options.seed })?;
    let most = network.max_tokens().min(options.max_tokens as usize);
    let options = TrainOptions { max_tokens: u32::try_from(most).unwrap_or(u32::MAX), ..options };
    Ok((network, options))
}

/// A network after its training.
pub(super) struct TrainedNetwork {
    pub(super) network: Network,
    /// Its encoder, where that was trained.
    files: BTreeMap<String, Vec<u8>>,
    path: Vec<PathStep>,
    kept: usize,
    checkpoint: Option<PathBuf>,
}

impl TrainedNetwork {
    /// Trains the network, unless only its head is wanted, which has been fitted already. `told` names the kind and the
    /// data for the checkpoint beside `dir`.
    pub(super) fn train(
        network: Network,
        data: Data<'_, Ids>,
        tuning: Tuning,
        told: &str,
        (options, dir, bar): (&TrainOptions, &Path, &ProgressBar),
    ) -> Result<Self> {
        if options.method == Method::Head {
            return Ok(Self { network, files: BTreeMap::new(), path: Vec::new(), kept: 0, checkpoint: None });
        }
        let TrainOptions { method, seed, test_share, max_tokens, windows, device, .. } = options;
        let told = format!("{told} {tuning:?} {max_tokens} {windows} {method:?} {} {test_share} {device}", seed.0);
        let at = checkpoint_path(dir, &told);
        let params = tuning.params.check()?;
        let fit = |run: Run<'_>| params.fit(network, data, *seed, run);
        let fitted = watched(bar, (options.threads, options.device), Some(&at), fit)?;
        Ok(Self {
            files: fitted.network.encoder_files()?,
            kept: fitted.history.iter().position(|r| r.step == fitted.kept_step).unwrap_or_default(),
            path: path(&fitted.history),
            network: fitted.network,
            checkpoint: Some(at),
        })
    }

    /// The encoder that will serve.
    pub(super) fn encoder(&self, options: &TrainOptions) -> Result<Encoder> {
        match options.method {
            Method::Head => Encoder::load(encoder_named(options)?.dir(), &options.reading()),
            _ => serving(&self.files, options),
        }
    }

    /// Writes the artifact, with the head and numbers of texts that learned, stopped and calibrated it.
    pub(super) fn write(
        self,
        made: Made,
        head: Head,
        (n_train, n_stop, n_calibrate): (usize, usize, usize),
        (options, dir): (&TrainOptions, &Path),
    ) -> Result<Artifact> {
        let c = self.path.get(self.kept).map_or(0.0, |step| step.c);
        let fitted = FittedHead { head, c, path: self.path, n_train, n_stop, n_calibrate };
        let what = made.what;
        let mut files = self.files;
        files.insert(Learned::FILE.to_owned(), made.learned.to_bytes());
        let (body, method) = match options.method {
            Method::Head => (Body::Base, format!("{what}, head")),
            Method::Lora => (Body::Encoder, format!("{what}, lora")),
            _ => (Body::Encoder, format!("{what}, full")),
        };
        let provenance = Provenance {
            name: options.name.clone(),
            kind: made.kind,
            task: options.task.clone(),
            base: made.base,
            body,
            method,
            files,
            out_of_scope: None,
            thresholds: made.thresholds,
            margin: made.margin,
            dtype: options.dtype,
            max_tokens: options.max_tokens,
            windows: options.windows,
            pooling: made.pooling,
            metrics: made.metrics,
            data_hash: made.data_hash,
            seed: options.seed,
            parent: options.parent.clone(),
            compression: None,
            unlabelled: None,
            taught: None,
            device: options.device.noted(),
            created: options.created,
        };
        let artifact = artifact::write(dir, &fitted, provenance, options.existing)?;
        // The model is safe: the state of its training is not needed any more. A file left behind does no harm.
        self.checkpoint.into_iter().for_each(|file| drop(std::fs::remove_file(file)));
        Ok(artifact)
    }
}

/// What a training made besides weights.
pub(super) struct Made {
    pub(super) kind: Kind,
    pub(super) base: BaseModel,
    /// The outputs, for the method's name in the manifest.
    pub(super) what: &'static str,
    pub(super) pooling: Pooling,
    /// Of a labeller.
    pub(super) thresholds: Vec<f64>,
    /// Of a regressor.
    pub(super) margin: Option<f64>,
    pub(super) metrics: BTreeMap<String, Metric>,
    pub(super) data_hash: String,
    /// Texts that had a part in the training.
    pub(super) learned: Learned,
}

/// What the serving encoder makes of texts, handed to `each` in order.
pub(super) fn embedded<'t>(
    texts: impl Iterator<Item = &'t str>,
    encoder: &Encoder,
    mut each: impl FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let (mut scratch, texts) = (Scratch::default(), texts.collect::<Vec<_>>());
    for part in texts.chunks(PASS) {
        let tokens = part.iter().map(|text| encoder.tokenize(text)).collect::<Result<Vec<_>>>()?;
        encoder.embed(&tokens, &mut scratch).iter().try_for_each(|vector| each(vector))?;
    }
    Ok(())
}

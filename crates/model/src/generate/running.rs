//! The thread on which an engine runs.

use super::{
    GeneratorOptions,
    engine::{Engine, Job},
    new_context,
    options::limits,
    stopped,
};
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use std::{
    sync::{Arc, mpsc},
    thread::JoinHandle,
};
use understudy_core::{Error, Result};

/// An engine at work. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Running {
    /// Taken when it is dropped: the engine ends when the channel does.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Allocates the cache and starts.
    ///
    /// # Errors
    /// `Internal` when memory does not suffice, or there is no thread.
    pub(super) fn start(
        model: &Arc<LlamaModel>,
        adapters: Vec<LlamaLoraAdapter>,
        options: GeneratorOptions,
    ) -> Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let (ready, started) = mpsc::channel();
        let model = Arc::clone(model);
        let run = move || match new_context(&model, &options) {
            Ok(context) => {
                let _ = ready.send(Ok(()));
                let limits = limits(&options, &model);
                Engine::new(&model, context, adapters, limits).run(&receiver);
            }
            Err(e) => {
                let _ = ready.send(Err(e.to_string()));
            }
        };
        let thread = std::thread::Builder::new().name("generate".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::internal(format!("no thread: {e}")))?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { jobs: Some(jobs), thread: Some(thread) }),
            Ok(Err(e)) => Err(Error::internal(format!("no context ({e}); use fewer context_tokens or max_sequences"))),
            Err(_) => Err(Error::internal("its thread ended")),
        }
    }

    /// Hands over a request.
    ///
    /// # Errors
    /// `Unavailable` when the thread has ended.
    pub(super) fn submit(&self, job: Job) -> Result<()> {
        self.jobs.as_ref().expect("taken only on drop").send(job).map_err(|_| stopped())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // The engine ends after its current step; a panic there has been printed already.
            let _ = thread.join();
        }
    }
}

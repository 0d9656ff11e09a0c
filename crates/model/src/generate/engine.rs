//! The engine: one thread that owns the context and steps all answers together.
//!
//! Every step builds one llama.cpp batch: the next token of every answer that is being written, then as much of the
//! waiting prompts as fits. Requests join and leave between steps. llama.cpp computes neighbouring sequences together
//! if they come in ascending order, so a batch is ordered by slot. It puts one adapter on a whole batch, so adapters
//! take turns ([`Turns`]).

use super::{
    sample::Sampler,
    slots::Slots,
    text::Emitter,
    turns::Turns,
    writing::{Candidates, Reading, Writing},
};
use llama_cpp_2::{
    context::LlamaContext,
    llama_batch::LlamaBatch,
    model::{LlamaLoraAdapter, LlamaModel},
    token::LlamaToken,
};
use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, TryRecvError},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc::UnboundedSender};
use understudy_core::{Error, Event, ModelName, Result, request::Delivery};

/// One request, prepared: everything that can be wrong with it was found before it came here.
#[derive(Debug)]
pub(super) struct Job {
    /// The name it is answered under.
    pub(super) name: ModelName,
    /// The adapter that is put on it, by its place among the engine's; `None` for the model as it is.
    pub(super) adapter: Option<usize>,
    pub(super) prompt: Vec<LlamaToken>,
    pub(super) max_tokens: usize,
    pub(super) sampler: Sampler,
    /// The texts of which the answer is one; without them it is written freely.
    pub(super) choices: Option<Candidates>,
    pub(super) stop: Vec<String>,
    pub(super) delivery: Delivery,
    /// Closed when nobody waits any more, which cancels the work.
    pub(super) reply: UnboundedSender<Result<Event>>,
    /// Its place in the queue.
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What the engine needs to know besides the context.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) sequences: usize,
    /// Tokens that prompt and answer may have together: the cells of each sequence.
    pub(super) tokens: usize,
    pub(super) batch: usize,
    pub(super) reuse: bool,
    /// The tokens that end an answer.
    pub(super) ends: Vec<usize>,
}

/// The loop and its state.
pub(super) struct Engine<'m> {
    model: &'m LlamaModel,
    context: LlamaContext<'m>,
    adapters: Vec<LlamaLoraAdapter>,
    /// The one that is on the context.
    on: Option<usize>,
    turns: Turns,
    limits: Limits,
    slots: Slots,
    waiting: VecDeque<Job>,
    writing: Vec<Writing>,
    batch: LlamaBatch<'static>,
}

impl<'m> Engine<'m> {
    pub(super) fn new(
        model: &'m LlamaModel,
        context: LlamaContext<'m>,
        adapters: Vec<LlamaLoraAdapter>,
        limits: Limits,
    ) -> Self {
        Self {
            model,
            context,
            adapters,
            on: None,
            turns: Turns::default(),
            slots: Slots::new(limits.sequences, limits.tokens),
            waiting: VecDeque::new(),
            writing: Vec::with_capacity(limits.sequences),
            batch: LlamaBatch::new(limits.batch, 1),
            limits,
        }
    }

    /// Works until the other end of `jobs` is dropped; whatever is unfinished then ends with an error.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.waiting.is_empty() && self.writing.is_empty() {
                match jobs.recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => return,
                }
            }
            loop {
                match jobs.try_recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.close(),
                }
            }
            self.step();
        }
    }

    fn close(self) {
        for job in self.waiting.into_iter().chain(self.writing.into_iter().map(|w| w.job)) {
            let _ = job.reply.send(Err(Error::unavailable("finish the answer: the model is being unloaded")));
        }
    }

    fn step(&mut self) {
        self.drop_cancelled();
        self.admit();
        let Some(adapter) = self.turns.next(self.writing.iter().map(|w| w.job.adapter)) else { return };
        self.fill_batch(adapter);
        self.turns.spend(usize::try_from(self.batch.n_tokens()).unwrap_or(0));
        let put_on = self.put_on(adapter);
        match put_on.and_then(|()| self.context.decode(&mut self.batch).map_err(|e| e.to_string())) {
            Ok(()) => self.draw_tokens(),
            Err(error) => self.fail_batch(&error),
        }
    }

    /// Puts an adapter on what is computed next, or takes off the one that is on.
    fn put_on(&mut self, adapter: Option<usize>) -> std::result::Result<(), String> {
        match (self.on, adapter) {
            (on, wanted) if on == wanted => return Ok(()),
            (_, Some(wanted)) => {
                self.context.lora_adapter_set(&mut self.adapters[wanted], 1.0).map_err(|e| e.to_string())?;
            }
            (Some(on), None) => {
                self.context.lora_adapter_remove(&mut self.adapters[on]).map_err(|e| e.to_string())?;
            }
            (None, None) => {}
        }
        self.on = adapter;
        Ok(())
    }

    fn drop_cancelled(&mut self) {
        self.waiting.retain(|job| !job.reply.is_closed());
        let slots = &mut self.slots;
        self.writing.retain(|w| {
            let wanted = !w.job.reply.is_closed();
            if !wanted {
                slots.release(w.slot);
            }
            wanted
        });
    }

    /// Gives waiting requests a place, first come, first served.
    fn admit(&mut self) {
        while let Some(job) = self.waiting.front() {
            let Some(placement) = self.slots.place(&job.prompt, job.adapter, self.limits.reuse) else { break };
            let job = self.waiting.pop_front().expect("it is the front");
            let slot = placement.slot;
            if let Some(source) = placement.copy_from {
                // Between pools llama.cpp copies whole ones only. The copies are made before the next batch is
                // computed, in the order of these calls, and only then are cells written.
                self.context
                    .copy_kv_cache_seq(sequence(source), sequence(slot), None, None)
                    .expect("no position is given that could be too large");
            }
            if !self.forget(slot, placement.reused) {
                // A cache that cannot be cut (recurrent state) is read from the start.
                self.forget(slot, 0);
                self.slots.clear(slot);
            }
            let choices = job.choices.as_ref().map(|candidates| &candidates.choices);
            let reading = choices.and_then(|choices| Some(Reading::new(&job.prompt, choices.next()?, choices)));
            self.writing.push(Writing {
                reading,
                reused: self.slots.len(slot),
                emitter: Emitter::new(&job.stop),
                job,
                slot,
                next: None,
                drawn: 0,
                logprobs: Vec::new(),
                output: None,
                batched: 0,
            });
        }
    }

    /// Removes everything from position `from` on; false when the cache cannot.
    fn forget(&mut self, slot: usize, from: usize) -> bool {
        let from = u32::try_from(from).expect("a position is an i32");
        let id = u32::try_from(slot).expect("few sequences");
        self.context.clear_kv_cache_seq(Some(id), Some(from), None).unwrap_or(false)
    }

    /// The next tokens of the answers whose turn it is.
    fn fill_batch(&mut self, adapter: Option<usize>) {
        self.batch.clear();
        // Running answers first; the room that they leave goes to the prompts, first come, first served.
        let running = |w: &&Writing| w.job.adapter == adapter && w.next.is_some();
        let mut room = self.limits.batch - self.writing.iter().filter(running).count();
        for w in &mut self.writing {
            w.output = None;
            w.batched = match w.next {
                _ if w.job.adapter != adapter => 0,
                Some(_) => 1,
                None => room.min(w.wanted().len() - self.slots.len(w.slot)),
            };
            if w.next.is_none() {
                room -= w.batched;
            }
        }
        let mut by_slot: Vec<&mut Writing> = self.writing.iter_mut().filter(|w| w.batched > 0).collect();
        by_slot.sort_by_key(|w| w.slot);
        for w in by_slot {
            let done = self.slots.len(w.slot);
            let tokens = match &w.next {
                Some(token) => std::slice::from_ref(token),
                None => &w.wanted()[done..done + w.batched],
            };
            let end = if w.next.is_some() { done + 1 } else { w.wanted().len() };
            let (mut outputs, mut output) = (Vec::new(), None);
            for (at, &token) in (done..).zip(tokens) {
                let last = at + 1 == end;
                let place = (at + 1).checked_sub(w.job.prompt.len());
                let node = w.reading.as_ref().zip(place).map(|(reading, place)| reading.nodes[place]);
                let is_open = |node: &usize| w.job.choices.as_ref().is_some_and(|c| c.choices.is_open(*node));
                let node = node.filter(is_open);
                outputs.extend(node.map(|node| (node, self.batch.n_tokens())));
                if last {
                    output = Some(self.batch.n_tokens());
                }
                add(&mut self.batch, token, at, w.slot, last || node.is_some());
            }
            w.output = output;
            if let Some(reading) = &mut w.reading {
                reading.outputs = outputs;
            }
        }
    }

    fn draw_tokens(&mut self) {
        let mut moved = Vec::new();
        let (slots, context, model, limits) = (&mut self.slots, &self.context, self.model, &self.limits);
        self.writing.retain_mut(|w| {
            if w.batched == 0 {
                return true;
            }
            match w.next {
                Some(token) => slots.extend(w.slot, &[token]),
                None => {
                    let done = slots.len(w.slot);
                    slots.extend(w.slot, &w.wanted()[done..done + w.batched]);
                }
            }
            if let (Some(reading), Some(candidates)) = (&w.reading, &mut w.job.choices) {
                for &(node, output) in &reading.outputs {
                    candidates.choices.read(node, context.get_logits_ith(output), &limits.ends);
                }
            }
            let Some(output) = w.output else { return true };
            if let Some(candidates) = &w.job.choices {
                if let Some(path) = candidates.choices.next() {
                    let reading = Reading::new(&w.job.prompt, path, &candidates.choices);
                    moved.push((w.slot, slots.common(w.slot, &reading.tokens)));
                    w.reading = Some(reading);
                    return true;
                }
                w.send_choice(model);
                slots.release(w.slot);
                return false;
            }
            let finish = match w.draw(model, context.get_logits_ith(output)) {
                Ok(None) => return w.send_delta(),
                Ok(Some(finish)) => finish,
                Err(error) => {
                    let _ = w.job.reply.send(Err(error));
                    slots.release(w.slot);
                    return false;
                }
            };
            w.send_delta();
            w.send_end(finish);
            slots.release(w.slot);
            false
        });
        for (slot, common) in moved {
            if self.forget(slot, common) {
                self.slots.cut(slot, common);
            } else {
                self.forget(slot, 0);
                self.slots.clear(slot);
            }
        }
    }

    /// llama.cpp could not compute the batch: its answers end with an error, and their cells are given up.
    fn fail_batch(&mut self, why: &str) {
        tracing::error!(error = why, "llama.cpp failed to compute a batch");
        let (failed, kept): (Vec<_>, Vec<_>) = self.writing.drain(..).partition(|w| w.batched > 0);
        self.writing = kept;
        for w in failed {
            self.forget(w.slot, 0);
            self.slots.clear(w.slot);
            self.slots.release(w.slot);
            let _ = w.job.reply.send(Err(Error::internal(format!("compute the answer: {why}"))));
        }
    }
}

fn add(batch: &mut LlamaBatch<'_>, token: LlamaToken, at: usize, slot: usize, output: bool) {
    batch.add(token, position(at), &[sequence(slot)], output).expect("a step never batches more than the limit");
}

fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).expect("few sequences")
}

fn position(at: usize) -> i32 {
    i32::try_from(at).expect("a position is an i32")
}

//! The real binary, from the outside: exit codes, messages, signals, files.

mod advising;
mod cascading;
mod certifying;
mod comparing;
mod configuring;
mod fewshot;
mod gating;
mod judging;
mod labelling;
mod loading;
mod piloting;
mod preparing;
mod serving;
mod support;
mod training;
mod windows;

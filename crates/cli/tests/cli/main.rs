//! The real binary, from the outside: exit codes, messages, signals, files.

mod advising;
mod cascading;
mod certifying;
mod comparing;
mod configuring;
mod exchanging;
mod fewshot;
mod gating;
mod judging;
mod labelling;
mod loading;
mod piloting;
mod preparing;
mod prompting;
mod regressing;
mod serving;
mod sharing;
mod support;
mod tiny;
mod training;
mod windows;

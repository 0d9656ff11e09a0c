//! The real binary, from the outside: exit codes, messages, signals, files.

mod advising;
mod certifying;
mod configuring;
mod piloting;
mod serving;
mod support;

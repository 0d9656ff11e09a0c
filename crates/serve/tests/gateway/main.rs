//! The gateway over real HTTP on loopback: scripted models, a store in a temporary folder.

mod answers;
mod endings;
mod lifecycle;
mod modes;
mod staged;
mod support;
mod surface;

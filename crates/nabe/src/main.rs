//! `nabe`: the server and its tools. Each subcommand is a module; this file only tells them apart.

mod cli;
mod decode;
mod vectors;
fn main() {}

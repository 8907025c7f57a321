//! `nabe bench`: what a hub costs. The parts that are measured run as processes of their own.

mod hub;
mod load;
mod process;
pub(crate) mod sink;

pub(crate) use hub::run as hub;

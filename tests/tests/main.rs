//! Whole servers, whole requests: what happens when everything that can go wrong between them does.

#[cfg(test)]
mod panics;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;

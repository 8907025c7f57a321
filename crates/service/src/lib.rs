//! Use cases of the server, and the ports through which they reach other servers, time and randomness.

pub mod ports;

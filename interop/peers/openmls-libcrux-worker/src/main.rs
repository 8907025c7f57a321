//! A worker of Nabe's lab: OpenMLS with libcrux. What compares with OpenMLS and RustCrypto, and what does not, is in README.md.

use std::io;

use nabe_allocations::Counting;
use nabe_lab::cell::Operation;
use nabe_lab::group::Groups;
use nabe_lab::openmls::{Backend, OpenMlsWith, settle_threads};
use nabe_lab::worker;
use openmls_libcrux_crypto::CryptoProvider;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    worker::serve(
        &mut Groups::<OpenMlsWith<Libcrux>>::with_threads(settle_threads()),
        io::stdin().lock(),
        io::stdout().lock(),
    )
}

/// libcrux: formally verified code, with a random generator of its own that the system seeds once for each device.
struct Libcrux;

impl Backend for Libcrux {
    const NAME: &'static str = "openmls-libcrux";
    const PACKAGE: (&'static str, &'static str) = ("openmls_libcrux_crypto", "0.4.0");
    const SUITES: &'static [u16] = &[1, 3];
    type Crypto = CryptoProvider;

    fn crypto() -> CryptoProvider {
        CryptoProvider::new().expect("the system has random numbers")
    }

    fn lacks(operation: Operation) -> Option<&'static str> {
        matches!(operation, Operation::Hub | Operation::Checkpoint | Operation::Restore)
            .then_some("Nabe's hub computes with RustCrypto, and is measured with that")
    }
}

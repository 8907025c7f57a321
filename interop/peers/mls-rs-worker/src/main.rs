//! A worker of Nabe's lab: mls-rs with RustCrypto. What compares with OpenMLS, and what does not, is in README.md.

mod member;
mod observer;

use std::collections::BTreeMap;
use std::io;

use mls_rs::CipherSuite;
use nabe_allocations::Counting;
use nabe_lab::cell::Operation;
use nabe_lab::group::Groups;
use nabe_lab::stack::Stack;
use nabe_lab::worker::{self, Failure};
use nabe_mls::HubGroup;
use nabe_mls::testing::TestDevice;

use crate::member::{Device, InGroup};
use crate::observer::Following;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    worker::serve(
        &mut Groups::<MlsRs>::with_threads(1),
        io::stdin().lock(),
        io::stdout().lock(),
    )
}

struct MlsRs;

impl Stack for MlsRs {
    const NAME: &'static str = "mls-rs";
    type Joiner = Device;
    type Member = InGroup;
    type Observer = Following;

    fn versions() -> BTreeMap<String, String> {
        [("mls-rs", "0.55.4"), ("mls-rs-crypto-rustcrypto", "0.23.0")]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into()
    }

    /// It has 7 as well, in which there are no groups on paper.
    fn suites() -> Vec<u16> {
        [
            CipherSuite::CURVE25519_AES128,
            CipherSuite::P256_AES128,
            CipherSuite::CURVE25519_CHACHA,
        ]
        .map(|suite| *suite)
        .into()
    }

    fn lacks(operation: Operation) -> Option<&'static str> {
        (operation == Operation::Hub).then_some("Nabe's hub is built on OpenMLS and is measured with that")
    }

    fn joiner(device: &TestDevice) -> Result<Device, Failure> {
        Device::of(device.clone())
    }

    fn observer(_: &HubGroup, group_info: &[u8]) -> Result<Following, Failure> {
        Following::of(group_info)
    }
}

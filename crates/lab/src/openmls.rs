//! OpenMLS as a [`Stack`], with any of its providers of cryptography; with RustCrypto it is what Nabe is built on.
//!
//! Members keep their groups in OpenMLS's memory storage, as its users do by default: what that writes is part of each figure. Random
//! numbers and keys are real, so they differ from run to run.

mod counting;
mod member;
mod observer;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use nabe_mls::HubGroup;
use nabe_mls::testing::TestDevice;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;

use self::counting::take_work;
pub use self::member::{Device, InGroup};
pub use self::observer::{Bare, Following};
use crate::cell::Operation;
use crate::group::Groups;
use crate::stack::Stack;
use crate::worker::Failure;

/// The name of the worker with RustCrypto.
pub const NAME: &str = WithRustCrypto::NAME;

/// The worker with RustCrypto, and beside it Nabe's hub.
pub type OpenMls = Groups<OpenMlsWith<WithRustCrypto>>;

/// A provider of cryptography for OpenMLS.
pub trait Backend: 'static {
    /// The worker's name.
    const NAME: &'static str;
    /// The provider's package and version.
    const PACKAGE: (&'static str, &'static str);
    /// The suites that it has and groups on paper can have.
    const SUITES: &'static [u16];
    /// What it computes with.
    type Crypto: OpenMlsCrypto + OpenMlsRand;

    /// One for a device.
    fn crypto() -> Self::Crypto;

    /// Why it does not do an operation, if so.
    fn lacks(_operation: Operation) -> Option<&'static str> {
        None
    }
}

/// RustCrypto.
pub struct WithRustCrypto;

impl Backend for WithRustCrypto {
    const NAME: &'static str = "openmls";
    const PACKAGE: (&'static str, &'static str) = ("openmls_rust_crypto", "0.6");
    const SUITES: &'static [u16] = &[1, 2, 3];
    type Crypto = RustCrypto;

    fn crypto() -> RustCrypto {
        RustCrypto::default()
    }
}

/// OpenMLS with a provider.
pub struct OpenMlsWith<B>(PhantomData<B>);

impl<B: Backend> Stack for OpenMlsWith<B> {
    const NAME: &'static str = B::NAME;
    type Joiner = Device<B>;
    type Member = InGroup<B>;
    type Observer = Following<B>;

    fn versions() -> BTreeMap<String, String> {
        let (package, version) = B::PACKAGE;
        [("openmls", "0.9.2"), (package, version)]
            .map(|(name, version)| (name.to_owned(), version.to_owned()))
            .into()
    }

    fn suites() -> Vec<u16> {
        B::SUITES.to_vec()
    }

    fn lacks(operation: Operation) -> Option<&'static str> {
        B::lacks(operation)
    }

    fn joiner(device: &TestDevice) -> Result<Device<B>, Failure> {
        Ok(Device::of(device.clone()))
    }

    fn observer(hub: &HubGroup, _: &[u8]) -> Result<Following<B>, Failure> {
        Following::of(hub)
    }

    fn take_work() -> BTreeMap<String, u64> {
        take_work()
    }
}

impl Default for OpenMls {
    fn default() -> Self {
        Self::with_threads(settle_threads())
    }
}

/// OpenMLS seals to the many nodes of a path in parallel, by rayon. If that is to have one thread, it is ours: handing work to another
/// and waiting for it would be timed, and on a busy machine take longer than the work. Returns how many there are.
pub fn settle_threads() -> u32 {
    if std::env::var("RAYON_NUM_THREADS").is_ok_and(|threads| threads == "1") {
        // Fails if it was done before, and then it holds already.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .use_current_thread()
            .build_global();
    }
    u32::try_from(rayon::current_num_threads()).unwrap_or(u32::MAX)
}

//! The worker that measures OpenMLS, by itself: the same as `nabe bench mls-worker openmls`.

use std::io;

use nabe_allocations::Counting;
use nabe_lab::{openmls::OpenMls, worker};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> io::Result<()> {
    worker::serve(&mut OpenMls::default(), io::stdin().lock(), io::stdout().lock())
}

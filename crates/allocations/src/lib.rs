//! The system's allocator, which counts what goes through it once [`start`] was called. Until then it costs one load of a flag, so a
//! program may install it for the sake of the one of its processes that measures.
//!
//! The only unsafe code of the workspace: each call is passed on as it came.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};

/// To be installed with `#[global_allocator]`.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

static IS_ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);
/// What is held, without what was allocated before the start; less than nothing if much of that was freed since.
static HELD: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

#[expect(unsafe_code, reason = "the trait is unsafe; every call is passed on as it came")]
// SAFETY: `System` keeps the contract, and nothing between caller and `System` is changed.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        let memory = unsafe { System.alloc(layout) };
        came(memory, layout.size());
        memory
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        let memory = unsafe { System.alloc_zeroed(layout) };
        came(memory, layout.size());
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if IS_ON.load(Relaxed) {
            HELD.fetch_sub(signed(layout.size()), Relaxed);
        }
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(memory, layout) };
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: passed on as it came.
        let moved = unsafe { System.realloc(memory, layout, size) };
        if IS_ON.load(Relaxed) && !moved.is_null() {
            HELD.fetch_sub(signed(layout.size()), Relaxed);
        }
        came(moved, size);
        moved
    }
}

fn came(memory: *mut u8, size: usize) {
    if IS_ON.load(Relaxed) && !memory.is_null() {
        COUNT.fetch_add(1, Relaxed);
        let held = HELD.fetch_add(signed(size), Relaxed) + signed(size);
        PEAK.fetch_max(held, Relaxed);
    }
}

/// Sizes fit: `Layout` has none above `isize::MAX`.
const fn signed(size: usize) -> i64 {
    size as i64
}

/// Begins to count. Returns whether anything will be: [`Counting`] may not be the program's allocator.
pub fn start() -> bool {
    IS_ON.store(true, Relaxed);
    let before = COUNT.load(Relaxed);
    drop(std::hint::black_box(Box::new(before)));
    COUNT.load(Relaxed) > before
}

/// What a span of work asked of the allocator, in all threads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Allocations {
    /// Allocations, enlargements included.
    pub count: u64,
    /// Bytes held at most, beyond those held when the span began.
    pub peak_bytes: u64,
}

/// A span of work; only one at a time is told right.
#[derive(Debug)]
pub struct Span {
    count: u64,
    held: i64,
}

impl Span {
    /// Begins it.
    #[must_use]
    pub fn begin() -> Self {
        let held = HELD.load(Relaxed);
        PEAK.store(held, Relaxed);
        Self {
            count: COUNT.load(Relaxed),
            held,
        }
    }

    /// Ends it.
    #[must_use]
    pub fn end(self) -> Allocations {
        Allocations {
            count: COUNT.load(Relaxed) - self.count,
            peak_bytes: u64::try_from(PEAK.load(Relaxed) - self.held).unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    /// One test: what is counted is the whole process's.
    #[test]
    fn a_span_tells_how_often_and_how_much_at_most() {
        assert!(start());
        let span = Span::begin();
        let first = std::hint::black_box(vec![0_u8; 1 << 20]);
        drop(first);
        let second = std::hint::black_box(vec![0_u8; 3 << 20]);
        let seen = span.end();
        drop(second);
        assert!((2..100).contains(&seen.count), "{seen:?}");
        assert!((3 << 20..4 << 20).contains(&seen.peak_bytes), "{seen:?}");
    }
}

//! What the heap holds. An input that makes it hold more than its size justifies is a finding like a panic, and
//! is found on any machine, however much memory that has.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Most that the heap may hold at any time: an allocation beyond it fails, which ends the process.
pub const HEAP_LIMIT: usize = 1 << 30;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
pub struct Counting;

fn take(bytes: usize) -> bool {
    let held = HELD.fetch_add(bytes, Relaxed).saturating_add(bytes);
    if held > HEAP_LIMIT {
        HELD.fetch_sub(bytes, Relaxed);
        return false;
    }
    MOST.fetch_max(held, Relaxed);
    true
}

fn give(bytes: usize) {
    HELD.fetch_sub(bytes, Relaxed);
}

// SAFETY: every block comes from the system's allocator under the layout that the caller names, and goes back to it under
// the same one; what is added is counting, and a null pointer, which the trait allows for any reason.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: asks of its caller what the trait asks.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about the layout is passed on.
        let block = unsafe { System.alloc(layout) };
        if block.is_null() {
            give(layout.size());
        }
        block
    }

    // SAFETY: asks of its caller what the trait asks.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about the layout is passed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        if block.is_null() {
            give(layout.size());
        }
        block
    }

    // SAFETY: asks of its caller what the trait asks.
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: the caller's promise about block and layout is passed on.
        unsafe { System.dealloc(block, layout) }
    }

    // SAFETY: asks of its caller what the trait asks.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise about block, layout and size is passed on.
        let moved = unsafe { System.realloc(block, layout, size) };
        give(if moved.is_null() { size } else { layout.size() });
        moved
    }
}

/// Does something, and tells by how many bytes the heap grew meanwhile at its largest, on all threads together.
pub fn growth(work: impl FnOnce()) -> usize {
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    work();
    MOST.load(Relaxed) - before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_and_an_absurd_amount_is_refused() {
        let grown = growth(|| drop(std::hint::black_box(vec![1u8; 3 << 20])));
        assert!(grown >= 3 << 20, "{grown}");
        assert!(Vec::<u8>::new().try_reserve_exact(HEAP_LIMIT + 1).is_err());
    }
}

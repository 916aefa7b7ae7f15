//! The system's allocator, counting: how much one thread holds, and how much it held at most.
//!
//! For test binaries that must show that a decoder takes memory by what it is given, not by what it is told. Counts are
//! by thread, so tests beside one another do not disturb; bytes freed by another thread than the one that took them are
//! counted where they are freed, which the threads under test do not do.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// To be named `#[global_allocator]`.
#[derive(Debug)]
pub struct Counted;

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone: nobody asks for them then.
    let _ended = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        MOST.try_with(|most| most.set(most.get().max(held.get())))
    });
}

// SAFETY: every call goes to the system's allocator with the arguments it came with; the counters are plain cells that
// allocate nothing.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs something; gives what it gave and the most bytes this thread held meanwhile beyond what it held before.
pub fn most_held<R>(run: impl FnOnce() -> R) -> (R, usize) {
    let before = HELD.with(Cell::get);
    MOST.with(|most| most.set(before));
    let result = run();
    (result, MOST.with(Cell::get).wrapping_sub(before).max(0) as usize)
}

//! Memory as a property: an allocator that knows how much the current input may make us take.

#![expect(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait; every method hands its arguments on unchanged"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Whatever the input, a decoder may take this much: a few buffers and messages of errors.
const BASE_BYTES: usize = 64 * 1024;
/// And this much for each byte of the input. The shortest spelling of an entry of a manifest is
/// four bytes, and about two hundred in memory; a vector doubles while it grows.
const PER_INPUT_BYTE: usize = 256;

thread_local! {
    /// What this thread may still take; nothing outside of [`within_allowance`].
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    /// Whether it took more.
    static OVERDRAWN: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator with an account. A binary that fuzzes makes it its global allocator;
/// without that, memory is not judged.
#[derive(Debug)]
pub struct Allowance;

/// Runs `decode` on an input of `input_bytes` bytes, and says whether the memory that it took
/// altogether stayed within what such an input allows. Given back memory counts as taken.
pub fn within_allowance(input_bytes: usize, decode: impl FnOnce()) -> bool {
    let allowed = BASE_BYTES.saturating_add(input_bytes.saturating_mul(PER_INPUT_BYTE));
    OVERDRAWN.set(false);
    LEFT.set(Some(allowed));
    decode();
    LEFT.set(None);
    !OVERDRAWN.get()
}

fn charge(bytes: usize) {
    // A thread that is about to end has no account any more.
    let charged = LEFT.try_with(|left| {
        let Some(had) = left.get() else { return };
        left.set(Some(had.saturating_sub(bytes)));
        if bytes > had {
            OVERDRAWN.set(true);
        }
    });
    charged.ok();
}

// SAFETY: every method is the system allocator's own with the same arguments; the account neither
// allocates nor panics.
unsafe impl GlobalAlloc for Allowance {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        charge(new_size.saturating_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

//! A fault to plant, so that tests can show that they see it.

extern crate std;

use std::cell::Cell;

std::thread_local! {
    static TAKES_TWICE: Cell<bool> = const { Cell::new(false) };
}

/// Whether changes of another flock happen each time that they are handed over.
pub(crate) fn takes_twice() -> bool {
    TAKES_TWICE.get()
}

pub(crate) fn take_twice(planted: bool) {
    TAKES_TWICE.set(planted);
}

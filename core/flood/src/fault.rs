//! Bugs that tests plant, to see that their checker finds them. None of them exists in a build.

#[cfg(not(test))]
mod none {
    /// Never: see the module.
    pub(crate) const fn accept_duplicates() -> bool {
        false
    }

    /// Never: see the module.
    pub(crate) const fn ignore_order() -> bool {
        false
    }
}
#[cfg(not(test))]
pub(crate) use none::{accept_duplicates, ignore_order};

#[cfg(test)]
mod planted {
    extern crate std;
    use core::cell::Cell;

    std::thread_local! {
        static DUPLICATES: Cell<bool> = const { Cell::new(false) };
        static ORDER: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn accept_duplicates() -> bool {
        DUPLICATES.get()
    }

    pub(crate) fn ignore_order() -> bool {
        ORDER.get()
    }

    /// Plants bugs in this thread until the next call.
    pub(crate) fn plant(duplicates: bool, order: bool) {
        DUPLICATES.set(duplicates);
        ORDER.set(order);
    }
}
#[cfg(test)]
pub(crate) use planted::{accept_duplicates, ignore_order, plant};

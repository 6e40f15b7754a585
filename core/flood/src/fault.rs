//! Bugs that tests plant, to see that their checker finds them. Outside tests nothing can plant
//! one.

#[cfg(test)]
extern crate std;

#[cfg(test)]
std::thread_local! {
    static PLANTED: core::cell::Cell<(bool, bool)> =
        const { core::cell::Cell::new((false, false)) };
}

/// Whether updates that came before are taken once more.
pub(crate) fn accept_duplicates() -> bool {
    planted().0
}

/// Whether updates do not wait for their predecessor.
pub(crate) fn ignore_order() -> bool {
    planted().1
}

/// Plants bugs in this thread until the next call.
#[cfg(test)]
pub(crate) fn plant(duplicates: bool, order: bool) {
    PLANTED.set((duplicates, order));
}

#[cfg(test)]
fn planted() -> (bool, bool) {
    PLANTED.get()
}

#[cfg(not(test))]
const fn planted() -> (bool, bool) {
    (false, false)
}

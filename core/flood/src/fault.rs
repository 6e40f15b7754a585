//! Bugs that tests plant, to see that their checker finds them. Outside tests nothing can plant
//! one.

#[cfg(test)]
extern crate std;

/// Which bugs are planted.
#[derive(Clone, Copy)]
pub(crate) struct Bugs {
    /// Updates that came before are taken once more.
    pub(crate) duplicates: bool,
    /// Updates do not wait for their predecessor.
    pub(crate) disorder: bool,
    /// Pruned edges carry nothing at all.
    pub(crate) silence: bool,
    /// Nobody asks for what only its id came of.
    pub(crate) incurious: bool,
}

impl Bugs {
    /// None.
    pub(crate) const NONE: Self =
        Self { duplicates: false, disorder: false, silence: false, incurious: false };
}

#[cfg(test)]
std::thread_local! {
    static PLANTED: core::cell::Cell<Bugs> = const { core::cell::Cell::new(Bugs::NONE) };
}

/// Plants bugs in this thread until the next call.
#[cfg(test)]
pub(crate) fn plant(bugs: Bugs) {
    PLANTED.set(bugs);
}

/// What is planted in this thread.
#[cfg(test)]
pub(crate) fn planted() -> Bugs {
    PLANTED.get()
}

/// Nothing, outside tests.
#[cfg(not(test))]
pub(crate) const fn planted() -> Bugs {
    Bugs::NONE
}

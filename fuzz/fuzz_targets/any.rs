//! One of the targets of `skep-fuzz`: the one that this program is named for.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skep_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env!("CARGO_BIN_NAME");
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => target,
        None => panic!("skep-fuzz has no target {name:?}"),
    }
});

fuzz_target!(|data: &[u8]| (TARGET.decode)(data));

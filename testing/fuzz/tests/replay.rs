//! Every committed input again, then mutations of them, and proof that the checks can fail.

use std::hint::black_box;

use skep_fuzz::{Allowance, TARGETS, corpus, run_one, run_seeded};

#[global_allocator]
static ALLOWANCE: Allowance = Allowance;

/// Mutations of each target in one test run: a few seconds in all without optimisation.
const MUTATIONS: u64 = 10_000;
/// Fixed, so that a run that passes passes again; `skep-fuzz TARGET --seed` tries others.
const SEED: u64 = 20_261_121;

#[test]
fn the_corpus_is_survived_and_holds_the_valid_messages() {
    for target in TARGETS {
        let inputs = corpus::load(target).unwrap();
        for (file, input) in &inputs {
            let survived = run_one(target.decode, input);
            assert!(survived.is_ok(), "{}/{file}: {}", target.name, survived.unwrap_err());
        }
        for (file, seed) in (target.seeds)() {
            assert!((target.accepts)(&seed), "{}/{file} is refused", target.name);
            let committed = inputs.iter().find(|(name, _)| name == file);
            assert!(
                committed.is_some_and(|(_, input)| *input == seed),
                "{}/{file} is not what is said today: cargo run -p skep-fuzz -- --write-seeds",
                target.name
            );
        }
    }
}

#[test]
fn mutations_are_survived() {
    for target in TARGETS {
        let corpus = corpus::inputs(target).unwrap();
        if let Err(failure) = run_seeded(target.decode, &corpus, SEED, MUTATIONS) {
            panic!("{}: {failure}", target.name);
        }
    }
}

/// The programs of `cargo fuzz` are no members of the workspace: nothing else would miss one.
#[test]
fn every_target_has_a_guided_program() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    let after_bin = manifest.split("[[bin]]\nname = \"").skip(1);
    let mut named: Vec<&str> = after_bin.map(|rest| rest.split('"').next().unwrap()).collect();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    named.sort_unstable();
    targets.sort_unstable();
    assert_eq!(named, targets);
}

/// Readers look for what a target reads in one table.
#[test]
fn every_target_is_in_the_documentation() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lab.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("| target | what it reads |").unwrap();
    for target in TARGETS {
        assert!(table.contains(&format!("`{}`", target.name)), "{} is missing", target.name);
    }
}

/// Mutations would be worthless if all were refused at the first byte, or none anywhere.
#[test]
fn mutations_reach_both_sides_of_every_decoder() {
    for target in TARGETS {
        let corpus = corpus::inputs(target).unwrap();
        let mut mutator = skep_fuzz::Mutator::seeded(SEED);
        let accepted = (0..2_000).filter(|_| (target.accepts)(&mutator.next(&corpus))).count();
        assert!(
            (20..1_980).contains(&accepted),
            "{}: {accepted} of 2000 mutations were accepted",
            target.name
        );
    }
}

/// A decoder as one writes it in a hurry: it believes a length.
fn believes_a_length(data: &[u8]) {
    if let Some((length, _)) = data.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length).min(1 << 26);
        black_box(Vec::<u8>::with_capacity(length as usize));
    }
}

/// And one that trips over a length that is one too long.
fn slices_without_looking(data: &[u8]) {
    if let [length, rest @ ..] = data {
        black_box(&rest[..usize::from(*length)]);
    }
}

#[test]
fn planted_faults_are_found() {
    let lengths = vec![vec![0, 0, 0, 4, 1, 2, 3, 4]];
    let failure = run_seeded(believes_a_length, &lengths, SEED, MUTATIONS).unwrap_err();
    assert!(failure.what.contains("memory"), "{failure}");
    let bodies = vec![vec![4, 1, 2, 3, 4]];
    let failure = run_seeded(slices_without_looking, &bodies, SEED, MUTATIONS).unwrap_err();
    assert!(failure.what.contains("range end index"), "{failure}");
    let again = run_one(slices_without_looking, &failure.input).unwrap_err();
    assert_eq!(again.what, failure.what, "a failure can be brought back");
}

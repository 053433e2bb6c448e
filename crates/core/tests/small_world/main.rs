//! What core decides about one path, held against a reference model that was written apart from it,
//! over a world so small that everything meets everything: three replicas, three counters, three
//! moments, two contents.
//!
//! `TRIPLES=20000000` asks for more triples, `PROPTEST_RNG_SEED` for other ones. The table of what
//! was met: `cargo test -p chainsync-core --test small_world -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod compare;
mod generate;
mod mutants;
mod reference;
mod tally;

use compare::{Core, compare};
use generate::Generator;
use tally::Tally;

/// Some ten seconds in a debug build, three in the `sim` profile.
const TRIPLES: u64 = 1_000_000;
/// What a mutant may take to be found: each takes a few hundred.
const MUTANT_TRIPLES: u64 = 100_000;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn core_decides_as_the_reference_does() {
    let (seed, triples) = (number("PROPTEST_RNG_SEED", 1), number("TRIPLES", TRIPLES));
    let mut generator = Generator::new(seed);
    let mut tally = Tally::default();
    for number in 0..triples {
        let triple = generator.triple();
        if let Err(difference) = compare(&Core::default(), &triple) {
            panic!("triple {number} of seed {seed}: {difference}\n{triple:#?}");
        }
        tally.count(&triple);
    }
    println!("{triples} triples of seed {seed}:\n{tally}");
    tally.check();
}

#[test]
fn every_mutant_of_core_is_found() {
    for (name, mutant) in mutants::all() {
        let mut generator = Generator::new(1);
        let found = (1..=MUTANT_TRIPLES).find_map(|number| {
            compare(&mutant, &generator.triple()).err().map(|difference| (number, difference))
        });
        let Some((number, difference)) = found else { panic!("nobody noticed: {name}") };
        println!("{name}: triple {number}: {difference}");
    }
}

#[test]
fn the_reference_is_small() {
    let lines = include_str!("reference.rs").lines().count();
    assert!(lines <= 100, "{lines} lines: too much to see at a glance that it is right");
}

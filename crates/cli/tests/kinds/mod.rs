//! Every kind of thing that a tree can hold, on the real file system: one node makes, overwrites,
//! renames and deletes them all while daemons are killed and started again. In the end the three
//! trees are equal, byte for byte, mode and mtime included, as seen by opening the files.
//!
//! `cases` says what is done, `place` does it by paths of any length, `trees` compares, `daemons` has
//! the processes. The order of steps and deaths is drawn from a seed, which a failure names.
//!
//! Left out when not run as root: device nodes, and modes that would keep their owner out.

mod cases;
#[allow(dead_code, reason = "the ledger uses the rest")]
pub mod daemons;
mod draw;
mod place;
pub mod trees;

use std::collections::BTreeSet;
use std::time::Duration;

use cases::{Case, World};
use daemons::{NODES, Ring};
use draw::Draw;
use place::Place;
use trees::{Node, Tree};

/// What the writer pauses between two steps, at most: long enough for some steps to be on their way
/// when a daemon dies, short enough for others to be read as one.
const PACE_MS_MAX: u64 = 40;
/// One step in so many kills a daemon, or starts one again.
const UPHEAVAL: u64 = 5;
/// From the last step until all is equal. Nothing takes so long but the machine doing other things.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn every_kind_of_thing_while_the_other_two_are_killed() {
    run(seed(1), &[1, 2]);
}

#[test]
fn every_kind_of_thing_while_all_three_are_killed() {
    run(seed(2), &[0, 1, 2]);
}

/// To try others: `CHAINSYNC_TEST_SEED=7 cargo test --test daemons kinds`.
fn seed(usual: u64) -> u64 {
    std::env::var("CHAINSYNC_TEST_SEED").map_or(usual, |seed| seed.parse().unwrap())
}

/// The writer works on the first node; `mortal` are the daemons that die.
fn run(seed: u64, mortal: &[usize]) {
    let mut ring = Ring::start(&format!("seed {seed}"));
    let mut draw = Draw(seed);
    let outside = ring.directory().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut worlds: Vec<(&Case, usize, World)> = cases::all()
        .map(|case| {
            let root = Place::open(&ring.share(0)).child(case.name);
            let outside = Place::open(&outside).child(case.name);
            (case, 0, World { root, outside, draw: Draw(seed ^ case.seed()), open: Vec::new() })
        })
        .collect();
    while !worlds.is_empty() {
        let chosen = draw.below(worlds.len() as u64) as usize;
        let (case, step, world) = &mut worlds[chosen];
        case.steps[*step](world);
        *step += 1;
        if *step == case.steps.len() {
            worlds.swap_remove(chosen);
        }
        if draw.below(UPHEAVAL) == 0 {
            let index = mortal[draw.below(mortal.len() as u64) as usize];
            if ring.is_running(index) { ring.kill(index) } else { ring.spawn(index) }
        }
        std::thread::sleep(Duration::from_millis(draw.below(PACE_MS_MAX)));
    }
    (0..NODES.len())
        .filter(|index| !ring.is_running(*index))
        .collect::<Vec<_>>()
        .into_iter()
        .for_each(|index| ring.spawn(index));

    // What cannot be replicated is shown where it is, and nowhere else; everything else is equal.
    let expected = cases::problems();
    ring.until("exactly the expected problems are shown", PATIENCE, || {
        let found: BTreeSet<String> = ring.problems(0).into_keys().collect();
        let others = ring.problems(1).len() + ring.problems(2).len();
        let same = found == expected && others == 0;
        if same {
            Ok(())
        } else {
            Err(format!("{found:#?} and {others} on the others, not {expected:#?}"))
        }
    });
    ring.until("the trees are equal", PATIENCE, || {
        let trees = [0, 1, 2].map(|index| ordinary(trees::read(&ring.share(index))));
        trees::equal(&trees[0], &trees[1]).and_then(|()| trees::equal(&trees[0], &trees[2]))
    });
    for index in [1, 2] {
        let special = |node: &Node| matches!(node, Node::Special(_));
        let there = trees::read(&ring.share(index)).values().filter(|node| special(node)).count();
        assert_eq!(there, 0, "seed {seed}: special files on {}", NODES[index]);
    }

    let root = Place::open(&ring.share(0));
    cases::remove_special(&root);
    for (index, name) in NODES.iter().enumerate() {
        ring.until(&format!("{name} is converged"), PATIENCE, || ring.converged(index));
    }
    let trees = [0, 1, 2].map(|index| trees::read(&ring.share(index)));
    let same = trees::equal(&trees[0], &trees[1]).and_then(|()| trees::equal(&trees[0], &trees[2]));
    same.unwrap_or_else(|difference| panic!("seed {seed}: converged, and yet {difference}"));
    assert!(trees[0].len() > cases::LEFT_MIN, "seed {seed}: only {} are left", trees[0].len());
    for (index, name) in NODES.iter().enumerate() {
        // Large ones are kept for a minute after they were displaced.
        let staging = ring.share(index).join(".chainsync/staging").read_dir().unwrap();
        let small =
            |entry: &std::fs::DirEntry| entry.metadata().is_ok_and(|it| it.len() <= 1 << 20);
        let left = staging.filter(|entry| entry.as_ref().is_ok_and(small)).count();
        assert_eq!(left, 0, "seed {seed}: left in staging of {name}");
    }
}

/// What can be replicated.
fn ordinary(mut tree: Tree) -> Tree {
    tree.retain(|path, _| !cases::is_special(path));
    tree
}

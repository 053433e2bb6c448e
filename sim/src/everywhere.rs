//! Death at every disk operation of a scenario (L4).
//!
//! First the scenario runs undisturbed and its disk operations are counted. Then it runs once for
//! each operation of each node and each way to die there; the node comes back a second later, and
//! every promise has to be kept as in any other run. After a kill the tree has to be what the
//! application made of it, too: its machine stayed up, so nothing that it did is excused.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use crate::check::Invariant;
use crate::failure::Failure;
use crate::fs::{Fall, Leaf, Loss, Tree};
use crate::run::{Options, Outcome, run_with};
use crate::scenario::Scenario;

/// Long enough for the others to notice that a connection ended; then the run is spent waiting.
const BACK_AFTER: Duration = Duration::from_millis(300);

/// A way to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The daemon is killed
    Crash,
    /// The machine loses power, and everything that was not synced
    PowerLoss,
    /// The machine loses power, and of what was not synced some is there, drawn by the seed
    PowerLossSome,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Crash => "crash",
            Fault::PowerLoss => "power-loss",
            Fault::PowerLossSome => "power-loss-some",
        })
    }
}

impl Fault {
    fn fall(self) -> Fall {
        let loss = match self {
            Fault::Crash => None,
            Fault::PowerLoss => Some(Loss::Strict),
            Fault::PowerLossSome => Some(Loss::Scattered),
        };
        Fall { loss, back_after: BACK_AFTER }
    }
}

/// One death.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Case {
    /// The node's place in the ring.
    pub node: usize,
    pub fault: Fault,
    /// Just before this operation; the first one is 1.
    pub operation: u64,
}

/// What the scenario does when nobody dies.
pub struct Baseline {
    /// By node, the kind of each disk operation.
    pub operations: Vec<Vec<&'static str>>,
    shape: Shape,
}

/// What is where, without times.
type Shape = BTreeMap<Vec<u8>, String>;

impl Baseline {
    /// Runs the scenario once, undisturbed.
    pub fn of(scenario: &Scenario, seed: u64) -> Result<Self, Failure> {
        let outcome = run_with(scenario, seed, None, &options(Vec::new()));
        match outcome.failure {
            Some(failure) => Err(failure),
            None => Ok(Self { operations: outcome.operations, shape: shape(&outcome.tree) }),
        }
    }

    /// Every death of a node by one fault.
    ///
    /// A strict power loss leaves what was synced, and that changes at syncs only: dying anywhere
    /// between two of them is the same death.
    pub fn cases(&self, node: usize, fault: Fault) -> Vec<Case> {
        let operations = self.operations.get(node).map(Vec::as_slice).unwrap_or_default();
        let numbered = (1..).zip(operations);
        let differs = |call: &str| fault != Fault::PowerLoss || call.starts_with("sync");
        let chosen = numbered.filter(|(_, call)| differs(call));
        chosen.map(|(operation, _)| Case { node, fault, operation }).collect()
    }

    /// Runs the scenario with one death.
    pub fn run(
        &self,
        scenario: &Scenario,
        seed: u64,
        case: Case,
        text: Option<Box<dyn Write + Send>>,
    ) -> Outcome {
        let falls = vec![(case.node, case.operation, case.fault.fall())];
        let mut outcome = run_with(scenario, seed, text, &options(falls));
        if outcome.failure.is_none() {
            outcome.failure = self.judge(case, &outcome);
        }
        outcome
    }

    fn judge(&self, case: Case, outcome: &Outcome) -> Option<Failure> {
        let at_ns = outcome.virtual_ms * 1_000_000;
        if outcome.deaths == 0 {
            let sentence = "the operation was never made: the run differs from the undisturbed one";
            return Some(Failure::new(Invariant::M1, at_ns, sentence));
        }
        if case.fault != Fault::Crash {
            return None;
        }
        let shape = shape(&outcome.tree);
        let paths = self.shape.keys().chain(shape.keys());
        let mut differing = paths.filter(|path| self.shape.get(*path) != shape.get(*path));
        differing.next().map(|path| {
            let show = |shape: &Shape| match shape.get(path) {
                Some(what) => what.clone(),
                None => "nothing".to_owned(),
            };
            let sentence = format!(
                "the trees are equal, but not what the application made: {} instead of {}",
                show(&shape),
                show(&self.shape)
            );
            Failure::new(Invariant::S4, at_ns, sentence).at_path(path)
        })
    }
}

fn options(falls: Vec<(usize, u64, Fall)>) -> Options {
    Options { falls, brief: true, ..Options::default() }
}

fn shape(tree: &Tree) -> Shape {
    let of = |leaf: &Leaf| match leaf {
        Leaf::Dir { mode } => format!("a directory, mode {mode:o}"),
        Leaf::Symlink { target } => format!("a symlink to {}", crate::trace::Shown(target)),
        Leaf::File { content, mode, .. } => {
            // A content begins with who wrote it and where; what follows is drawn.
            let label = content.split(|byte| *byte == b' ').take(2).collect::<Vec<_>>().join(&b' ');
            let label: Vec<u8> = label.into_iter().take(80).collect();
            let (label, length) = (crate::trace::Shown(&label), content.len());
            format!("a file of {length} bytes (`{label}`), mode {mode:o}")
        }
    };
    tree.iter().map(|(path, leaf)| (path.clone(), of(leaf))).collect()
}

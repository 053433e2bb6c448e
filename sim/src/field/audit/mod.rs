//! A verdict on a run in the field, from what the applications recorded and what the disks hold. The
//! promises are those of the simulation, as far as they can be seen from outside.

mod bypass;
mod contents;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use bypass::bypassed;
use contents::Contents;

use super::record::{Digest, Fact, Line};
use super::tree::{Leaf, Tree};
use crate::check::Invariant;
use crate::failure::Failure;
use crate::scenario::{Event, Scenario};

/// What a power loss may take of an application's own files: ext4 writes back after 5 s, dirty pages
/// after 30.
const WRITTEN_BACK_MS: u64 = 40_000;
/// Large contents that were displaced are kept in staging for a minute.
const SPARE: &str = "spare-";

/// One host, when all is over.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub record: Vec<Line>,
    pub tree: Tree,
    /// As its daemon counts them.
    pub conflicts: Option<u64>,
}

/// An event of the scenario, by its number in order of time, and when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    pub event: usize,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// Everything that is known of a run.
#[derive(Debug)]
pub struct Run<'a> {
    pub scenario: &'a Scenario,
    pub seed: u64,
    /// Milliseconds since 1970.
    pub began_ms: u64,
    pub happened: Vec<Happened>,
    pub hosts: BTreeMap<String, Host>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Found {
    pub uploads: u64,
    pub lost: u64,
    pub files: u64,
}

/// What the field cannot judge: said before anything begins.
pub fn check(scenario: &Scenario) -> Result<(), String> {
    let expect = &scenario.expect;
    let key = [
        ("passes", !expect.passes.is_empty()),
        ("winners", !expect.winners.is_empty()),
        ("archived", expect.archived.is_some()),
        ("reaches", expect.reaches.is_some()),
        ("dead", !expect.dead.is_empty()),
    ];
    match key.iter().find(|(_, used)| *used) {
        Some((key, _)) => Err(format!("`expect.{key}` can only be judged in the simulation")),
        None => Ok(()),
    }
}

/// The first promise that was broken, or what was found.
pub fn audit(run: &Run<'_>) -> Result<Found, Failure> {
    let contents = Contents::of(run);
    for (node, host) in &run.hosts {
        contents.judge(node, &host.tree).map_err(|failure| run.at_end(failure))?;
    }
    equal(run)?;
    let mut found = Found::default();
    lost(run, &mut found)?;
    returned(run)?;
    leftovers(run)?;
    expected(run)?;
    bypassed(run)?;
    found.files = run.hosts.values().next().map_or(0, |host| host.tree.leaves.len() as u64);
    Ok(found)
}

impl Run<'_> {
    fn since_ns(&self, at_ms: u64) -> u64 {
        at_ms.saturating_sub(self.began_ms) * 1_000_000
    }

    fn failure(&self, invariant: Invariant, sentence: impl Into<String>) -> Failure {
        self.at_end(Failure::new(invariant, 0, sentence))
    }

    /// What is seen in the end is dated with the last fact.
    fn at_end(&self, mut failure: Failure) -> Failure {
        let facts = self.hosts.values().flat_map(|host| &host.record).map(|line| line.at_ms);
        let last = facts.chain(self.happened.iter().map(|happened| happened.at_ms)).max();
        failure.at_ns = self.since_ns(last.unwrap_or(self.began_ms));
        failure
    }

    /// When a node lost its power.
    fn power_losses(&self, node: &str) -> impl Iterator<Item = u64> {
        self.happened.iter().filter_map(move |happened| {
            match &self.scenario.events.get(happened.event)?.event {
                Event::PowerLoss(loss) if loss.node.get_ref() == node => Some(happened.at_ms),
                _ => None,
            }
        })
    }

    /// Whether what an application of `node` did at `at_ms` may have gone with the power.
    fn may_be_undone(&self, node: &str, at_ms: u64) -> bool {
        self.power_losses(node).any(|lost| (at_ms..at_ms + WRITTEN_BACK_MS).contains(&lost))
    }

    fn facts(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.hosts
            .iter()
            .flat_map(|(node, host)| host.record.iter().map(move |line| (&**node, line)))
    }
}

/// L1.
fn equal(run: &Run<'_>) -> Result<(), Failure> {
    let mut hosts = run.hosts.iter();
    let Some((first, reference)) = hosts.next() else { return Ok(()) };
    for (other, host) in hosts {
        let (left, right) = (&reference.tree.leaves, &host.tree.leaves);
        let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
        let same = |path: &&&String| match (left.get(**path), right.get(**path)) {
            (Some(left), Some(right)) => left.shows_the_same_as(right),
            _ => false,
        };
        let mut differ = paths.iter().filter(|path| !same(path));
        if let Some(path) = differ.next() {
            let shown = |leaf: Option<&Leaf>| leaf.map_or("nothing".to_owned(), Leaf::to_string);
            let sentence = format!(
                "the trees of {first} and {other} differ in {} paths; at the first one {first} has {} and {other} {}",
                1 + differ.count(),
                shown(left.get(*path)),
                shown(right.get(*path))
            );
            return Err(run.failure(Invariant::L1, sentence).on(other).at_path(path.as_bytes()));
        }
    }
    Ok(())
}

/// S3.
fn lost(run: &Run<'_>, found: &mut Found) -> Result<(), Failure> {
    let mut taken: BTreeSet<&Digest> = BTreeSet::new();
    let mut finished: Vec<(&str, u64, &String, &Digest)> = Vec::new();
    for (node, line) in run.facts() {
        match &line.fact {
            Fact::Finished { path, hash, displaced } => {
                finished.push((node, line.at_ms, path, hash));
                taken.extend(displaced);
            }
            Fact::Removed { hash, .. } => taken.extend(hash),
            Fact::Moved { displaced, .. } => taken.extend(displaced),
            _ => {}
        }
    }
    let hosts = || run.hosts.values();
    let archived: BTreeSet<&Digest> = hosts().flat_map(|host| &host.tree.archived).collect();
    let current: BTreeSet<&Digest> =
        hosts().flat_map(|host| host.tree.leaves.values()).filter_map(Leaf::hash).collect();
    found.uploads = finished.len() as u64;
    let mut first = None;
    for (node, at_ms, path, hash) in finished {
        let is_somewhere = current.contains(hash) || archived.contains(hash);
        if taken.contains(hash) || is_somewhere || run.may_be_undone(node, at_ms) {
            continue;
        }
        found.lost += 1;
        first.get_or_insert((node, at_ms, path));
    }
    let allowed = run.scenario.expect.lost.unwrap_or(0);
    match first {
        Some((node, at_ms, path)) if found.lost > allowed => {
            let sentence = format!(
                "{} finished uploads are neither in a tree nor in an archive, and nobody took them away",
                found.lost
            );
            let failure = Failure::new(Invariant::S3, run.since_ns(at_ms), sentence);
            Err(failure.on(node).at_path(path.as_bytes()))
        }
        _ => Ok(()),
    }
}

/// S4.
fn returned(run: &Run<'_>) -> Result<(), Failure> {
    for (node, line) in run.facts() {
        let Fact::Removed { path, hash: Some(hash) } = &line.fact else { continue };
        if run.may_be_undone(node, line.at_ms) {
            continue;
        }
        // It was put there again, or changed elsewhere: then it is not what was deleted.
        let again = run.facts().any(|(_, other)| match &other.fact {
            Fact::Finished { path: at, hash: put, .. } => {
                other.at_ms > line.at_ms && at == path && put == hash
            }
            Fact::Moved { to, hash: put, .. } => to == path && put.as_ref() == Some(hash),
            Fact::Made { path: at } => at == path,
            _ => false,
        });
        let holds = |host: &Host| host.tree.leaves.get(path).and_then(Leaf::hash) == Some(hash);
        if !again && let Some((holder, _)) = run.hosts.iter().find(|(_, host)| holds(host)) {
            let sentence = format!("it was deleted on {node}, and is back");
            let failure = Failure::new(Invariant::S4, run.since_ns(line.at_ms), sentence);
            return Err(failure.on(holder).at_path(path.as_bytes()));
        }
    }
    Ok(())
}

/// L3.
fn leftovers(run: &Run<'_>) -> Result<(), Failure> {
    for (node, host) in &run.hosts {
        let mut left = host.tree.staged.iter().filter(|name| !name.starts_with(SPARE));
        if let Some(name) = left.next() {
            let sentence = format!("{} files are left in staging", 1 + left.count());
            return Err(run.failure(Invariant::L3, sentence).on(node).at_path(name.as_bytes()));
        }
    }
    Ok(())
}

/// What the scenario itself expects.
fn expected(run: &Run<'_>) -> Result<(), Failure> {
    let expect = &run.scenario.expect;
    for (node, host) in &run.hosts {
        if let (Some(expected), Some(found)) = (expect.conflicts, host.conflicts)
            && found != expected
        {
            let sentence = format!("{expected} conflicts are expected, and it counts {found}");
            return Err(run.failure(Invariant::Conflicts, sentence).on(node));
        }
        for path in &expect.absent {
            if host.tree.leaves.contains_key(path) {
                let failure = run.failure(Invariant::Expected, "nothing may be here in the end");
                return Err(failure.on(node).at_path(path.as_bytes()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::script::{What, script};

    const SCENARIO: &str = r#"
about = "x"
on    = ["live"]
nodes = ["apollo", "chronos", "hermes"]

[[at]]
time  = "0s"
write = { node = "apollo", path = "a", size = "1KiB", style = "in-place" }

[[at]]
time  = "1s"
crash = { node = "chronos" }

[[at]]
time  = "2s"
write = { node = "apollo", path = "b", size = "1KiB", style = "in-place" }

[[at]]
time   = "3s"
delete = { node = "hermes", path = "a" }

[expect]
bypass-within = "5s"
conflicts     = 0
"#;
    const BEGAN_MS: u64 = 1_000_000;

    fn scenario() -> Scenario {
        Scenario::parse("x.toml", SCENARIO).unwrap()
    }

    fn hash(path: &str) -> Digest {
        script(&scenario(), 1, "apollo")
            .into_iter()
            .find_map(|step| match step.what {
                What::Upload(upload) => {
                    let draft = upload.draft();
                    (draft.path.to_string() == path)
                        .then(|| blake3::hash(&draft.content).to_hex().to_string())
                }
                _ => None,
            })
            .unwrap()
    }

    /// All went well: `b` is everywhere, `a` was written and deleted.
    fn run(scenario: &Scenario) -> Run<'_> {
        let at = |after_ms: u64, fact: Fact| Line { at_ms: BEGAN_MS + after_ms, fact };
        let finished =
            |path: &str| Fact::Finished { path: path.into(), hash: hash(path), displaced: None };
        let leaf = |changed_ms: u64| Leaf::File {
            hash: hash("b"),
            size: 1024,
            mode: 0o644,
            mtime_ns: 5,
            changed_ms: BEGAN_MS + changed_ms,
        };
        let host = |record: Vec<Line>, changed_ms| Host {
            record,
            tree: Tree { leaves: [("b".to_owned(), leaf(changed_ms))].into(), ..Tree::default() },
            conflicts: Some(0),
        };
        let removed = Fact::Removed { path: "a".into(), hash: Some(hash("a")) };
        let hosts = [
            ("apollo", host(vec![at(5, finished("a")), at(2005, finished("b"))], 2005)),
            ("chronos", host(Vec::new(), 9000)),
            ("hermes", host(vec![at(3005, removed)], 2500)),
        ];
        Run {
            scenario,
            seed: 1,
            began_ms: BEGAN_MS,
            happened: vec![Happened { event: 1, at_ms: BEGAN_MS + 1000 }],
            hosts: hosts.map(|(name, host)| (name.to_owned(), host)).into(),
        }
    }

    fn broken(spoil: impl FnOnce(&mut Run<'_>)) -> (Invariant, Option<String>) {
        let scenario = scenario();
        let mut run = run(&scenario);
        spoil(&mut run);
        let failure = audit(&run).unwrap_err();
        (failure.invariant, failure.node)
    }

    fn on(host: &str) -> Option<String> {
        Some(host.to_owned())
    }

    #[test]
    fn a_good_run_is_good() {
        let scenario = scenario();
        let found = audit(&run(&scenario)).unwrap();
        assert_eq!(found, Found { uploads: 2, lost: 0, files: 1 });
    }

    #[test]
    fn what_differs_is_found() {
        let chmod = |run: &mut Run<'_>| {
            let leaves = &mut run.hosts.get_mut("hermes").unwrap().tree.leaves;
            if let Some(Leaf::File { mode, .. }) = leaves.get_mut("b") {
                *mode = 0o600;
            }
        };
        assert_eq!(broken(chmod), (Invariant::L1, on("hermes")));
        let gone = |run: &mut Run<'_>| {
            run.hosts.get_mut("chronos").unwrap().tree.leaves.clear();
        };
        assert_eq!(broken(gone), (Invariant::L1, on("chronos")));
    }

    #[test]
    fn what_is_torn_or_elsewhere_is_found() {
        let torn = |run: &mut Run<'_>| {
            for host in run.hosts.values_mut() {
                if let Some(Leaf::File { hash, .. }) = host.tree.leaves.get_mut("b") {
                    "half".clone_into(hash);
                }
            }
        };
        assert_eq!(broken(torn), (Invariant::S1, on("apollo")));
        let elsewhere = |run: &mut Run<'_>| {
            for host in run.hosts.values_mut() {
                let leaf = host.tree.leaves.remove("b").unwrap();
                host.tree.leaves.insert("c".to_owned(), leaf);
            }
        };
        assert_eq!(broken(elsewhere), (Invariant::S2, on("apollo")));
    }

    #[test]
    fn what_is_lost_or_comes_back_is_found() {
        let lost = |run: &mut Run<'_>| {
            run.hosts.values_mut().for_each(|host| host.tree.leaves.clear());
        };
        assert_eq!(broken(lost), (Invariant::S3, on("apollo")));
        let back = |run: &mut Run<'_>| {
            for host in run.hosts.values_mut() {
                let leaf = Leaf::File {
                    hash: hash("a"),
                    size: 1024,
                    mode: 0o644,
                    mtime_ns: 5,
                    changed_ms: BEGAN_MS + 10,
                };
                host.tree.leaves.insert("a".to_owned(), leaf);
            }
        };
        assert_eq!(broken(back), (Invariant::S4, on("apollo")));
    }

    #[test]
    fn an_archive_keeps_what_lost() {
        let scenario = scenario();
        let mut run = run(&scenario);
        run.hosts.values_mut().for_each(|host| host.tree.leaves.clear());
        run.hosts.get_mut("hermes").unwrap().tree.archived.insert(hash("b"));
        // Nothing arrived on hermes, as far as its tree tells.
        let failure = audit(&run).unwrap_err();
        assert_eq!(failure.invariant, Invariant::Bypass);
    }

    #[test]
    fn a_late_bypass_leftovers_and_conflicts_are_found() {
        let late = |run: &mut Run<'_>| {
            let leaves = &mut run.hosts.get_mut("hermes").unwrap().tree.leaves;
            if let Some(Leaf::File { changed_ms, .. }) = leaves.get_mut("b") {
                *changed_ms = BEGAN_MS + 6001;
            }
        };
        assert_eq!(broken(late), (Invariant::Bypass, on("hermes")));
        let left = |run: &mut Run<'_>| {
            run.hosts.get_mut("chronos").unwrap().tree.staged.insert("in-1".to_owned());
        };
        assert_eq!(broken(left), (Invariant::L3, on("chronos")));
        let conflict = |run: &mut Run<'_>| run.hosts.get_mut("apollo").unwrap().conflicts = Some(1);
        assert_eq!(broken(conflict), (Invariant::Conflicts, on("apollo")));
    }
}

//! L1: all trees equal: path, kind, content, mode, mtime.

use super::{Invariant, Machines, SHARE};
use crate::failure::Failure;
use crate::fs::{Leaf, Tree};
use crate::shared::lock;

pub(crate) fn equal(machines: &Machines, now_ns: u64) -> Result<(), Failure> {
    let tree = |index: usize| lock(&machines[index].disk).tree(SHARE.as_bytes());
    let gone = |index: usize, error: std::io::Error| {
        let name = &machines[index].name;
        Failure::new(Invariant::L1, now_ns, format!("the share's root cannot be read: {error}"))
            .on(name)
    };
    let first = tree(0).map_err(|error| gone(0, error))?;
    for index in 1..machines.len() {
        let other = tree(index).map_err(|error| gone(index, error))?;
        let names = (machines[0].name.as_str(), machines[index].name.as_str());
        compare(&first, &other, names, now_ns)?;
    }
    Ok(())
}

/// The first difference, and how many there are.
fn compare(
    left: &Tree,
    right: &Tree,
    (left_name, right_name): (&str, &str),
    now_ns: u64,
) -> Result<(), Failure> {
    let paths = left.keys().chain(right.keys().filter(|path| !left.contains_key(*path)));
    let mut first: Option<(&Vec<u8>, String)> = None;
    let mut count = 0;
    for path in paths {
        let Some(difference) = difference(left.get(path), right.get(path), left_name) else {
            continue;
        };
        count += 1;
        if first.as_ref().is_none_or(|(before, _)| *before > path) {
            first = Some((path, difference));
        }
    }
    match first {
        None => Ok(()),
        Some((path, difference)) => {
            let sentence = format!(
                "the trees of {left_name} and {right_name} differ in {count} paths; at the first \
                 one, {difference}"
            );
            Err(Failure::new(Invariant::L1, now_ns, sentence).on(right_name).at_path(path))
        }
    }
}

fn difference(left: Option<&Leaf>, right: Option<&Leaf>, left_name: &str) -> Option<String> {
    match (left, right) {
        (None, None) => None,
        (Some(left), None) => Some(format!("only {left_name} has it: {}", show(left))),
        (None, Some(right)) => Some(format!("{left_name} lacks it: {}", show(right))),
        (Some(left), Some(right)) if left == right => None,
        (Some(left), Some(right)) => {
            Some(format!("{left_name} has {}, the other {}", show(left), show(right)))
        }
    }
}

fn show(leaf: &Leaf) -> String {
    match leaf {
        Leaf::File { content, mode, mtime_ns } => {
            let head = content.iter().take_while(|byte| **byte != b'\n').copied();
            let head: Vec<u8> = head.take(40).collect();
            let head = crate::trace::Shown(&head);
            format!("a file of {} bytes (`{head}`), mode {mode:o}, mtime {mtime_ns}", content.len())
        }
        Leaf::Dir { mode } => format!("a directory, mode {mode:o}"),
        Leaf::Symlink { target } => format!("a symlink to {}", crate::trace::Shown(target)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Content;

    #[test]
    fn every_difference_is_seen() {
        let file = |content: &[u8], mode, mtime_ns| Leaf::File {
            content: Content::new(content.to_vec()),
            mode,
            mtime_ns,
        };
        let tree = |leaf: Leaf| Tree::from([(b"a".to_vec(), leaf)]);
        let base = tree(file(b"x", 0o644, 1));
        assert!(compare(&base, &base.clone(), ("a", "b"), 0).is_ok());
        for other in [
            tree(file(b"y", 0o644, 1)),
            tree(file(b"x", 0o600, 1)),
            tree(file(b"x", 0o644, 2)),
            tree(Leaf::Dir { mode: 0o755 }),
            Tree::new(),
        ] {
            for (left, right) in [(&base, &other), (&other, &base)] {
                let failure = compare(left, right, ("a", "b"), 0).unwrap_err();
                assert_eq!(
                    (failure.invariant, failure.path.as_deref()),
                    (Invariant::L1, Some("a"))
                );
            }
        }
    }
}

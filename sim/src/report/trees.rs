//! The trees side by side, where they differ.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::fs::{Leaf, Tree};
use crate::shared::EPOCH_NS;
use crate::trace::Shown;

use super::text;

/// With some 400 bytes a node and path, a few hundred kilobytes.
pub(super) const DIFFERENCES_MAX: usize = 200;
/// Of a content one sees how it begins.
const HEAD_BYTES: usize = 40;

/// A path that is not the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub path: String,
    /// By lane.
    pub cells: Vec<Cell>,
}

/// What one node has there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Nothing,
    Something(Vec<Property>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub text: String,
    /// Whether others who have the path have this otherwise.
    pub differs: bool,
}

/// The differences, that at `first` before all others, and how many there are.
pub(super) fn differences(trees: &[Tree], first: Option<&str>) -> (Vec<Difference>, usize) {
    let paths: BTreeSet<&Vec<u8>> = trees.iter().flat_map(BTreeMap::keys).collect();
    let differing = paths
        .into_iter()
        .filter(|path| trees.windows(2).any(|pair| pair[0].get(*path) != pair[1].get(*path)));
    let mut differing: Vec<(String, &Vec<u8>)> =
        differing.map(|path| (Shown(path).to_string(), path)).collect();
    let count = differing.len();
    differing.sort_by_key(|(shown, _)| Some(shown.as_str()) != first);
    differing.truncate(DIFFERENCES_MAX);
    let difference = |(path, raw): (String, &Vec<u8>)| {
        let leaves: Vec<Option<&Leaf>> = trees.iter().map(|tree| tree.get(raw)).collect();
        Difference { path, cells: cells(&leaves) }
    };
    (differing.into_iter().map(difference).collect(), count)
}

fn cells(leaves: &[Option<&Leaf>]) -> Vec<Cell> {
    let mut letters: Vec<ContentHash> = Vec::new();
    let described: Vec<Option<Vec<String>>> =
        leaves.iter().map(|leaf| leaf.map(|leaf| describe(leaf, &mut letters))).collect();
    let present: Vec<&Vec<String>> = described.iter().flatten().collect();
    let differs =
        |place: usize| present.windows(2).any(|pair| pair[0].get(place) != pair[1].get(place));
    let cell = |properties: &Vec<String>| {
        let texts = properties.iter().enumerate();
        let properties = texts
            .map(|(place, text)| Property { text: text.clone(), differs: differs(place) })
            .collect();
        Cell::Something(properties)
    };
    described.iter().map(|leaf| leaf.as_ref().map_or(Cell::Nothing, cell)).collect()
}

/// Kind and size, content, mode, time. Equal contents get equal letters.
fn describe(leaf: &Leaf, letters: &mut Vec<ContentHash>) -> Vec<String> {
    match leaf {
        Leaf::File { content, mode, mtime_ns } => {
            let hash = ContentHash::of(content);
            let place = letters.iter().position(|known| *known == hash).unwrap_or(letters.len());
            if place == letters.len() {
                letters.push(hash);
            }
            let letter = char::from(b'A' + u8::try_from(place).unwrap_or(u8::MAX).min(25));
            let head: Vec<u8> = content
                .iter()
                .copied()
                .take_while(|byte| *byte != b'\n')
                .take(HEAD_BYTES)
                .collect();
            let head = Shown(&head).to_string();
            let head: String = head.chars().take(HEAD_BYTES).collect();
            vec![
                format!("file, {}", text::bytes(content.len() as u64)),
                format!("content {letter}: {head}"),
                format!("mode {mode:o}"),
                format!("modified {}", modified(*mtime_ns)),
            ]
        }
        Leaf::Dir { mode } => vec!["directory".into(), String::new(), format!("mode {mode:o}")],
        Leaf::Symlink { target } => vec!["symlink".into(), format!("to {}", Shown(target))],
    }
}

/// Seconds of the run, as everything else on the page.
fn modified(mtime_ns: i128) -> String {
    match u64::try_from(mtime_ns - EPOCH_NS) {
        Ok(at_ns) => format!("at {} s", text::moment(at_ns)),
        Err(_) => format!("before the run ({mtime_ns} ns)"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Sample, file};
    use super::*;
    use crate::fs::Content;

    #[test]
    fn what_differs_is_marked_and_the_failing_path_comes_first() {
        let mut sample = Sample::torn();
        let tree = &mut sample.record.trees[2];
        tree.insert(b"A/before".to_vec(), Leaf::Dir { mode: 0o755 });
        let (found, count) = differences(&sample.record.trees, Some("a/one"));
        assert_eq!(
            (count, found[0].path.as_str(), found[1].path.as_str()),
            (2, "a/one", "A/before")
        );
        let [Cell::Something(whole), Cell::Something(torn), Cell::Nothing] = &found[0].cells[..]
        else {
            panic!("{:?}", found[0].cells)
        };
        let shown = |properties: &[Property]| -> Vec<(String, bool)> {
            properties[..3]
                .iter()
                .map(|p| (p.text[..11.min(p.text.len())].to_owned(), p.differs))
                .collect()
        };
        let expected = |size: &str, letter: &str| {
            [(size, true), (letter, true), ("mode 644", false)]
                .map(|(text, differs)| (text.to_owned(), differs))
        };
        assert_eq!(shown(whole), expected("file, 5,120", "content A: "));
        assert_eq!(shown(torn), expected("file, 5,119", "content B: "));
    }

    #[test]
    fn equal_trees_have_no_differences_and_many_are_counted() {
        let tree = |node: usize| -> Tree {
            let leaf = file(&Content::new(vec![node as u8]));
            (0..500).map(|number| (format!("{number}").into_bytes(), leaf.clone())).collect()
        };
        assert_eq!(differences(&[tree(1), tree(1)], None).1, 0);
        let (found, count) = differences(&[tree(1), tree(2)], None);
        assert_eq!((found.len(), count), (DIFFERENCES_MAX, 500));
    }
}

//! What became of files: who wrote each version, when it was on which node, and how it ended.

use std::collections::{BTreeMap, BTreeSet};

use chainsync_core::ContentHash;

use crate::fs::Leaf;
use crate::oracle::Upload;
use crate::trace::Shown;

use super::{Report, text};

/// One path's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    pub path: String,
    pub versions: Vec<Version>,
    pub end: String,
    /// Whether the nodes differ there at the end, or something is lost.
    pub bad: bool,
}

/// One content that the web application wrote there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub lane: usize,
    pub size: u64,
    pub finished_ns: Option<u64>,
    /// By lane: when a daemon gave it its name there.
    pub published_ns: Vec<Option<u64>>,
    pub end: String,
    /// In an archive only, or overwritten: not to be expected anywhere.
    pub lost: bool,
}

/// The fates of these paths.
pub(super) fn of<'p>(
    report: &Report<'_>,
    lanes: &[String],
    paths: impl Iterator<Item = &'p str>,
) -> Vec<Fate> {
    let mut uploads: BTreeMap<String, Vec<&Upload>> = BTreeMap::new();
    for upload in &report.record.uploads {
        uploads.entry(Shown(&upload.path).to_string()).or_default().push(upload);
    }
    // The names of a tree as they are shown: how they are met everywhere else.
    let trees: Vec<BTreeMap<String, &Leaf>> = report
        .record
        .trees
        .iter()
        .map(|tree| tree.iter().map(|(path, leaf)| (Shown(path).to_string(), leaf)).collect())
        .collect();
    let fate = |path: &str| {
        let leaves: Vec<Option<&Leaf>> = trees.iter().map(|tree| tree.get(path).copied()).collect();
        let hashes: Vec<Option<ContentHash>> = leaves.iter().map(|leaf| hash(*leaf)).collect();
        let of_path = uploads.get(path).map(Vec::as_slice).unwrap_or_default();
        let version = |upload: &&Upload| version(report, upload, &hashes, lanes);
        let versions: Vec<Version> = of_path.iter().map(version).collect();
        let differs = leaves.windows(2).any(|pair| pair[0] != pair[1]);
        let end = end(&leaves, lanes, differs);
        let bad = differs || versions.iter().any(|version| version.lost);
        Fate { path: path.to_owned(), versions, end, bad }
    };
    paths.map(fate).collect()
}

fn hash(leaf: Option<&Leaf>) -> Option<ContentHash> {
    match leaf {
        Some(Leaf::File { content, .. }) => Some(ContentHash::of(content)),
        _ => None,
    }
}

/// What is at a path when the run ends.
fn end(leaves: &[Option<&Leaf>], lanes: &[String], differs: bool) -> String {
    let with: Vec<&str> = leaves
        .iter()
        .zip(lanes)
        .filter(|(leaf, _)| leaf.is_some())
        .map(|(_, lane)| lane.as_str())
        .collect();
    match (with.len(), differs) {
        (0, _) => "at the end on no node".into(),
        (_, false) => "at the end the same on all nodes".into(),
        (count, true) if count == leaves.len() => "at the end not the same on all nodes".into(),
        _ => format!("at the end on {} only", with.join(" and ")),
    }
}

fn version(
    report: &Report<'_>,
    upload: &Upload,
    hashes: &[Option<ContentHash>],
    lanes: &[String],
) -> Version {
    let holders: Vec<&str> = hashes
        .iter()
        .zip(lanes)
        .filter(|(hash, _)| **hash == Some(upload.hash))
        .map(|(_, lane)| lane.as_str())
        .collect();
    let archived = report.record.archived.get(&upload.hash);
    let names = |nodes: &BTreeSet<usize>| {
        let names = nodes.iter().filter_map(|node| lanes.get(*node).map(String::as_str));
        names.collect::<Vec<_>>().join(", ")
    };
    let (end, lost) = if upload.finished_ns.is_none() {
        ("never finished".to_owned(), false)
    } else if holders.len() == lanes.len() {
        ("current on all nodes".to_owned(), false)
    } else if upload.replaced {
        ("since overwritten, deleted or renamed away by the application".to_owned(), false)
    } else if upload.excused {
        ("gone with the power before anybody had promised to keep it".to_owned(), false)
    } else if let Some(nodes) = archived {
        (format!("displaced by a later version; kept in the archive of {}", names(nodes)), false)
    } else if holders.is_empty() {
        ("lost: neither current anywhere nor in an archive".to_owned(), true)
    } else {
        (format!("current on {} only", holders.join(" and ")), false)
    };
    Version {
        lane: upload.node,
        size: upload.size,
        finished_ns: upload.finished_ns,
        published_ns: upload.published_ns.clone(),
        end,
        lost,
    }
}

impl Version {
    /// `uploaded on apollo at 0.005000 s, 5,120 bytes`.
    pub(super) fn begin(&self, lanes: &[String]) -> String {
        let on = lanes.get(self.lane).map(String::as_str).unwrap_or_default();
        let size = text::bytes(self.size);
        match self.finished_ns {
            Some(at_ns) => format!("uploaded on {on} at {} s, {size}", text::moment(at_ns)),
            None => format!("begun on {on}, {size}"),
        }
    }

    /// When it came to each other node, and to which it never did.
    pub(super) fn arrivals(&self, lanes: &[String]) -> String {
        let mut told = Vec::new();
        let mut never = Vec::new();
        for (lane, name) in lanes.iter().enumerate().filter(|(lane, _)| *lane != self.lane) {
            match self.published_ns.get(lane).copied().flatten() {
                Some(at_ns) => match self.finished_ns.and_then(|begin| at_ns.checked_sub(begin)) {
                    Some(after) => told.push(format!("on {name} {} later", text::span(after))),
                    None => told.push(format!("on {name} at {} s", text::moment(at_ns))),
                },
                None => never.push(name.as_str()),
            }
        }
        if !never.is_empty() {
            told.push(format!("never came whole to {}", never.join(", ")));
        }
        told.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    fn fate(sample: &Sample, path: &str) -> Fate {
        let lanes = ["apollo", "chronos", "hermes"].map(String::from);
        of(&sample.report(), &lanes, [path].into_iter()).remove(0)
    }

    #[test]
    fn a_file_s_story_has_a_beginning_a_way_and_an_end() {
        let lanes = ["apollo", "chronos", "hermes"].map(String::from);
        let mut sample = Sample::torn();
        sample.record.uploads[0].published_ns[1] = Some(9_200_000);
        let fate = fate(&sample, "a/one");
        assert!(fate.bad);
        assert_eq!(fate.end, "at the end on apollo and chronos only");
        let version = &fate.versions[0];
        assert_eq!(version.begin(&lanes), "uploaded on apollo at 0.005000 s, 5,120 bytes");
        assert_eq!(version.arrivals(&lanes), "on chronos 4.2 ms later, never came whole to hermes");
        assert_eq!(version.end, "current on apollo only");
    }

    #[test]
    fn how_a_version_ends() {
        let mut sample = Sample::torn();
        let end = |sample: &Sample| fate(sample, "b two").versions.remove(0).end;
        assert!(end(&sample).starts_with("lost"));
        assert!(fate(&sample, "b two").bad);
        let hash = sample.record.uploads[1].hash;
        sample.record.archived.insert(hash, BTreeSet::from([2]));
        assert!(end(&sample).ends_with("the archive of hermes"));
        sample.record.uploads[1].replaced = true;
        assert!(end(&sample).starts_with("since overwritten"));
        sample.record.uploads[1].finished_ns = None;
        assert_eq!(end(&sample), "never finished");
    }
}

//! What is left when all is over, found by opening files and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::content::{self, Id};
use crate::daemons::{NODES, Ring};
use crate::edits::TEMPORARY;
use crate::ledger::{Content, Ledger, State};
use crate::site::Site;
use crate::trees::{self, Node, Tree};

/// Names in staging, of all nodes.
pub fn staging(ring: &Ring) -> Vec<String> {
    let mut left = Vec::new();
    for (index, name) in NODES.iter().enumerate() {
        for entry in ring.share(index).join(".chainsync/staging").read_dir().unwrap() {
            left.push(format!("{name}: {:?}", entry.unwrap().file_name()));
        }
    }
    left
}

/// Path, kind, content, mode and mtime.
pub fn equal(ring: &Ring) -> Result<(), String> {
    let trees = [0, 1, 2].map(|index| trees::read(&ring.share(index)));
    for index in [1, 2] {
        trees::equal(&trees[0], &trees[index])
            .map_err(|why| format!("{} and {}: {why}", NODES[0], NODES[index]))?;
    }
    Ok(())
}

/// How often each content was found where.
#[derive(Default)]
pub struct Found {
    pub current: BTreeMap<String, String>,
    pub archived: BTreeSet<Id>,
    pub in_trash: usize,
    pub finished: usize,
}

/// The rest: nothing unaccounted, nothing that nobody wrote, nothing that came back.
pub fn audit(ring: &Ring, ledger: &Ledger, sites: &[&Site], outside: &Path) -> Found {
    let mut found = Found::default();
    let mut accounted: BTreeSet<Id> = ledger.books().taken.clone();
    let mut currents: Vec<(String, Id)> = Vec::new();

    let tree = trees::read(&ring.share(0));
    for (path, node) in &tree {
        let path = String::from_utf8(path.clone()).unwrap();
        match node {
            Node::File { hash, .. } => {
                match known(ledger, hash) {
                    Ok(Some(id)) => {
                        accounted.insert(id);
                        currents.push((path.clone(), id));
                    }
                    Ok(None) => {}
                    Err(why) => ledger.violated(format!("{path}: in the trees: {why}")),
                }
                if path.contains(TEMPORARY) {
                    ledger.violated(format!("{path}: a deleted temporary file is back"));
                }
                found.current.insert(path, hash.clone());
            }
            Node::Dir { .. } => {}
            // It lost to what was written below it, and is on disk again once that is deleted: as
            // replicated as anything else, and followed by nobody.
            Node::Symlink { target }
                if path.starts_with("swap/") && Path::new(target) == outside => {}
            other => ledger.violated(format!("{path}: nobody wrote {other:?}")),
        }
    }
    only_expected(ledger, &tree, &found);

    for (index, name) in NODES.iter().enumerate() {
        for entry in ring.home(index).join("state/images/archive").read_dir().unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap().to_owned();
            if file.ends_with(".new") {
                // On its way into the archive when the daemon was killed.
                continue;
            }
            let content = std::fs::read(&path).unwrap();
            if blake3::hash(&content).to_hex().to_string() != file {
                ledger.violated(format!("archive of {name}: {file} is damaged"));
            }
            match known(ledger, &content::name(&content)) {
                Ok(Some(id)) => {
                    found.archived.insert(id);
                    accounted.insert(id);
                }
                Ok(None) => {}
                Err(why) => ledger.violated(format!("archive of {name}: {file}: {why}")),
            }
        }
    }
    for site in sites {
        // What applications moved out with whole directories: a deletion by somebody who could read it.
        for (path, node) in trees::read(&site.trash) {
            let path = path.escape_ascii().to_string();
            let Node::File { hash, .. } = node else { continue };
            found.in_trash += 1;
            match known(ledger, &hash) {
                Ok(Some(id)) => {
                    accounted.insert(id);
                }
                // What git had on its way is known to git alone.
                Ok(None) => {}
                Err(_) if path.contains("/.git/") => {}
                Err(why) => {
                    let node = NODES[site.index];
                    ledger.violated(format!("{path}: moved out of the tree of {node}: {why}"));
                }
            }
        }
    }

    let books = ledger.books();
    let mut left: Vec<Id> = accounted.iter().copied().collect();
    while let Some(id) = left.pop() {
        let Some(write) = books.writes.get(&id) else { continue };
        for before in [write.parent, write.displaced].into_iter().flatten() {
            if accounted.insert(before) {
                left.push(before);
            }
        }
    }
    let mut wrong = Vec::new();
    for write in books.writes.values() {
        match write.state {
            State::Finished => found.finished += 1,
            State::Passing => continue,
            State::Announced => {
                wrong.push(format!(
                    "{}: {:016x} was never finished: a writer died",
                    write.path, write.id
                ));
            }
        }
        if !accounted.contains(&write.id) {
            wrong.push(format!(
                "{}: the finished write {:016x} is neither current nor overwritten by who had read it nor in an archive",
                write.path, write.id
            ));
        }
    }
    // A write always beats what it was made to: if that is current, the write was reverted. Not in
    // `swap`, where an application puts back old files over new ones by moving their directory.
    let mut over: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    for write in books.writes.values() {
        for before in [write.parent, write.displaced].into_iter().flatten() {
            over.entry(before).or_default().push(write.id);
        }
    }
    for (path, current) in currents.iter().filter(|(path, _)| !path.starts_with("swap/")) {
        let mut younger: BTreeSet<Id> = BTreeSet::new();
        let mut left = vec![*current];
        while let Some(id) = left.pop() {
            let after = over.get(&id).into_iter().flatten().copied();
            left.extend(after.filter(|id| younger.insert(*id)));
        }
        let by = younger.iter().map(|id| &books.writes[id]);
        for write in by.filter(|it| it.path == *path && it.state == State::Finished).take(1) {
            wrong.push(format!(
                "{path}: {current:016x} is current, which {:016x} had overwritten",
                write.id
            ));
        }
    }
    drop(books);
    wrong.into_iter().for_each(|what| ledger.violated(what));
    found
}

fn known(ledger: &Ledger, hash: &str) -> Result<Option<Id>, String> {
    match ledger.books().content(hash) {
        Some(Content::Of(id)) => Ok(Some(id)),
        Some(Content::Foreign) => Ok(None),
        Some(Content::Wrong(why)) => Err(why),
        None => Err(format!("nobody wrote the content {hash}")),
    }
}

/// Where one writer was for itself, exactly what it left is there.
fn only_expected(ledger: &Ledger, tree: &Tree, found: &Found) {
    let expected = ledger.books().expected.clone();
    let own = |path: &str| path.starts_with("private/") || path.starts_with("burst/");
    for (path, hash) in &expected {
        match found.current.get(path) {
            Some(current) if current == hash => {}
            Some(current) => {
                ledger.violated(format!("{path}: {current} is there, its only writer left {hash}"));
            }
            None => ledger.violated(format!("{path}: it is gone, its only writer left {hash}")),
        }
    }
    for path in found.current.keys().filter(|path| own(path)) {
        if !expected.contains_key(path) {
            ledger.violated(format!("{path}: it is back, its only writer had deleted it"));
        }
    }
    // Directories of bursts that were deleted: none may have stayed. (git leaves empty ones.)
    for (path, node) in tree {
        let path = String::from_utf8(path.clone()).unwrap();
        if path.starts_with("burst/")
            && matches!(node, Node::Dir { .. })
            && path.matches('/').count() == 2
            && !expected.keys().any(|it| it.starts_with(&format!("{path}/")))
        {
            ledger.violated(format!("{path}: a deleted directory is still there, or back"));
        }
    }
}

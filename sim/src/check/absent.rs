//! S4, where the ledger cannot tell: what a scenario says is gone in the end.
//!
//! A node that has lost its index and imports a file is taken for somebody who put it there
//! (`s04_returned.rs`); that a deletion which the others still know wins over it takes a story.

use super::{Invariant, Machines, SHARE};
use crate::failure::Failure;
use crate::fs::Tree;
use crate::shared::lock;

pub(crate) fn absent(machines: &Machines, paths: &[String], now_ns: u64) -> Result<(), Failure> {
    for machine in machines.iter().filter(|_| !paths.is_empty()) {
        let tree = lock(&machine.disk).tree(SHARE.as_bytes()).unwrap_or_default();
        if let Some(path) = there(&tree, paths) {
            let sentence =
                format!("`{path}` is there in the end, and the scenario says it is gone");
            let failure = Failure::new(Invariant::S4, now_ns, sentence);
            return Err(failure.on(&machine.name).at_path(path.as_bytes()));
        }
    }
    Ok(())
}

fn there<'p>(tree: &Tree, paths: &'p [String]) -> Option<&'p String> {
    paths.iter().find(|path| tree.contains_key(path.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Leaf;

    #[test]
    fn what_is_there_is_seen() {
        let tree: Tree = [(b"d/a".to_vec(), Leaf::Dir { mode: 0o755 })].into();
        let paths = ["d".to_owned(), "d/a".to_owned()];
        assert_eq!(there(&tree, &paths), Some(&paths[1]));
        assert_eq!(there(&tree, &paths[..1]), None);
    }
}

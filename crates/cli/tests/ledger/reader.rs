//! Opens every file of a node's share, again and again, as an application would that serves them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::content::Id;
use crate::daemons::NODES;
use crate::site::Site;

/// Between two files: a look at each of some hundred files a second.
const PACE: Duration = Duration::from_millis(2);

/// Whatever is at a name must be a whole content that somebody has written, everywhere and at any
/// time. Not looked at:
/// - a path at which this node's own writers are at work in place: there a half-written file is theirs;
/// - this node's own bursts, for the same reason, and clones by git anywhere: what git writes on its
///   way is known to git alone. The audit looks at what it leaves.
pub fn read(site: &Site, stop: &AtomicBool) {
    let node = NODES[site.index];
    let mut seen: BTreeMap<String, Id> = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for path in site.files() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if path.starts_with(&format!("burst/{node}/")) || path.contains("/.git/") {
                continue;
            }
            std::thread::sleep(PACE);
            let generation = site.generation(&path);
            let Ok(content) = site.read(&path) else { continue };
            if generation % 2 == 1 || generation != site.generation(&path) {
                continue;
            }
            match site.ledger.judge(&content) {
                // Only its writer's node tells of a private path, and there greater is later: a
                // smaller one is an older content that came back.
                Ok(id) if path.starts_with("private/") => {
                    if let Some(before) = seen.get(&path)
                        && *before > id
                        && !is_renamed(site, id, &path)
                    {
                        site.ledger.violated(format!(
                            "{path}: on {node} {before:016x} went back to {id:016x}"
                        ));
                    }
                    seen.insert(path, id);
                }
                Ok(_) => {}
                Err(_) if path.starts_with("burst/") && is_cloned(site, &content) => {}
                Err(why) => {
                    let bytes = content.len();
                    site.ledger.violated(format!("{path}: torn on {node}, {bytes} bytes: {why}"));
                }
            }
        }
    }
}

/// Written under another name first: then its number says nothing.
fn is_renamed(site: &Site, id: Id, path: &str) -> bool {
    site.ledger.books().writes.get(&id).is_none_or(|write| write.path != path)
}

/// A work file that git wrote: no records, but the text that was committed.
fn is_cloned(_: &Site, content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let mut lines = text.lines();
    let Some(first) = lines.next() else { return content.is_empty() };
    first.contains(" of ") && lines.all(|line| line == first) && text.ends_with('\n')
}

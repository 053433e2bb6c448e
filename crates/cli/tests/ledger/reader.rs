//! Opens every file of a node's share, again and again, as an application would that serves them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::daemons::NODES;
use crate::ledger::PRIVATE;
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
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
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
                // What its only writer put there before what was seen here already has come back.
                Ok(id) if path.starts_with(PRIVATE) => {
                    let from = seen.get(&path).copied().unwrap_or_default();
                    match site.ledger.place(&path, id, from) {
                        Some(place) => {
                            seen.insert(path, place);
                        }
                        None => site.ledger.violated(format!(
                            "{path}: {id:016x} is on {node}, where something later was before"
                        )),
                    }
                }
                Ok(_) => {}
                Err(_) if path.starts_with("burst/") && is_cloned(&content) => {}
                Err(why) => {
                    let bytes = content.len();
                    site.ledger.violated(format!("{path}: torn on {node}, {bytes} bytes: {why}"));
                }
            }
        }
    }
}

/// A work file that git wrote: no records, but the text that was committed.
fn is_cloned(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    let mut lines = text.lines();
    let Some(first) = lines.next() else { return content.is_empty() };
    first.contains(" of ") && lines.all(|line| line == first) && text.ends_with('\n')
}

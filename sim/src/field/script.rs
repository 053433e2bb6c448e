//! What the web application of one node does, and when: drawn from scenario and seed alone, so that
//! everybody who has both knows which contents there may be.

use std::time::Duration;

use chainsync_core::RelPath;

use crate::rng::Stream;
use crate::scenario::{Event, Scenario, WriteEvent};
use crate::workload::{self, Application, Draft, Style};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Since the scenario began.
    pub at: Duration,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Upload(Upload),
    Delete(RelPath),
    Rename(RelPath, RelPath),
    MakeDir(RelPath),
    Symlink(RelPath, String),
    Chmod(RelPath, u32),
}

/// The content is drawn when it is needed: a storm's would fill the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    path: RelPath,
    size: u64,
    style: Option<Style>,
    /// How long the writing takes, in many pieces.
    pub over: Option<Duration>,
    seed: u64,
    purpose: String,
    node: String,
}

impl Upload {
    pub(crate) fn draft(&self) -> Draft {
        let mut rng = Stream::new(self.seed, &self.purpose, &self.node);
        Draft::draw(&self.node, self.path.clone(), self.size, self.style, &mut rng)
    }
}

/// All steps of a node, in order of time.
pub fn script(scenario: &Scenario, seed: u64, node: &str) -> Vec<Step> {
    let rng = Stream::new(seed, "application", node);
    let mut writer = Writer { seed, node: node.to_owned(), rng, steps: Vec::new() };
    let mut storms = 0;
    for timed in &scenario.events {
        let (from, from_ns) = (timed.time, timed.time.as_nanos() as u64);
        let is_named = timed.event.nodes().iter().any(|name| name.get_ref() == node);
        // Storms are counted, whoever makes them: their number is part of the names.
        storms += usize::from(matches!(timed.event, Event::Storm(_) | Event::Churn(_)));
        if !is_named {
            continue;
        }
        match &timed.event {
            Event::Storm(storm) => workload::storm(&mut writer, storms, from_ns, storm.into()),
            Event::Churn(churn) => workload::churn(&mut writer, storms, from_ns, churn.into()),
            Event::Write(write) | Event::Overwrite(write) => writer.write(from, write),
            Event::Delete(event) => {
                writer.one(from, event.path.get_ref(), What::Delete);
            }
            Event::Rename(event) => {
                writer.rename(from_ns, event.from.get_ref(), event.to.get_ref());
            }
            Event::Mkdir(event) => {
                writer.one(from, event.path.get_ref(), What::MakeDir);
            }
            Event::Symlink(event) => writer
                .one(from, event.path.get_ref(), |path| What::Symlink(path, event.target.clone())),
            Event::Chmod(event) => {
                writer.one(from, event.path.get_ref(), |path| What::Chmod(path, event.mode));
            }
            _ => {}
        }
    }
    writer.steps.sort_by_key(|step| step.at);
    writer.steps
}

struct Writer {
    seed: u64,
    node: String,
    rng: Stream,
    steps: Vec<Step>,
}

impl Writer {
    fn one(&mut self, at: Duration, name: &str, what: impl FnOnce(RelPath) -> What) {
        // The scenario was checked: its paths are paths.
        if let Ok(path) = RelPath::new(name) {
            self.steps.push(Step { at, what: what(path) });
        }
    }

    fn write(&mut self, at: Duration, write: &WriteEvent) {
        let (size, style, over) = (write.size.0, write.style, write.over.map(|over| over.0));
        self.put(at, write.path.get_ref(), size, style, over);
    }

    fn put(
        &mut self,
        at: Duration,
        name: &str,
        size: u64,
        style: Option<Style>,
        over: Option<Duration>,
    ) {
        let (seed, node) = (self.seed, self.node.clone());
        let same = |step: &&Step| matches!(&step.what, What::Upload(upload) if step.at == at && upload.path.as_bytes() == name.as_bytes());
        let others = self.steps.iter().rev().take_while(|step| step.at == at).filter(same).count();
        let purpose = format!("upload {} {name} {others}", at.as_nanos());
        self.one(at, name, |path| {
            What::Upload(Upload { path, size, style, over, seed, purpose, node })
        });
    }
}

impl Application for Writer {
    fn node(&self) -> &str {
        &self.node
    }

    fn rng(&mut self) -> &mut Stream {
        &mut self.rng
    }

    fn upload(&mut self, due_ns: u64, name: &str, size: u64) {
        self.put(Duration::from_nanos(due_ns), name, size, None, None);
    }

    fn delete(&mut self, due_ns: u64, name: &str) {
        self.one(Duration::from_nanos(due_ns), name, What::Delete);
    }

    fn rename(&mut self, due_ns: u64, from: &str, to: &str) {
        if let (Ok(from), Ok(to)) = (RelPath::new(from), RelPath::new(to)) {
            let at = Duration::from_nanos(due_ns);
            self.steps.push(Step { at, what: What::Rename(from, to) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"
about = "x"
on    = ["live"]
nodes = ["apollo", "hermes"]

[[at]]
time  = "1s"
storm = { nodes = ["apollo", "hermes"], files = 20, size = "100B", directories = 3, over = "2s" }

[[at]]
time  = "0s"
write = { node = "apollo", path = "a", size = "1KiB", style = "rename" }
"#;

    #[test]
    fn the_same_seed_is_the_same_script() {
        let scenario = Scenario::parse("x.toml", SCENARIO).unwrap();
        let apollo = script(&scenario, 7, "apollo");
        assert_eq!(apollo, script(&scenario, 7, "apollo"));
        assert_ne!(apollo, script(&scenario, 8, "apollo"));
        assert_eq!((apollo.len(), script(&scenario, 7, "hermes").len()), (21, 20));
        assert_eq!(apollo[0].at, Duration::ZERO);
        let What::Upload(upload) = &apollo[0].what else { panic!("{:?}", apollo[0]) };
        let (one, other) = (upload.draft(), upload.draft());
        assert_eq!(one.content, other.content);
        assert_eq!(one.content.len(), 1024);
        assert!(one.temporary.is_some());
        assert!(apollo.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }
}

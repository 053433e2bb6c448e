//! What came of a run, for a person who has never seen the code: one HTML page that needs nothing
//! but a browser, and a timeline for the terminal.
//!
//! Both are pictures of one model of the run ([`model`]): lanes, marks, arrows, bands. What is told
//! comes from the history, the frames, the disks and the oracle; no daemon is asked.

mod bands;
mod diagram;
mod fates;
mod html;
mod model;
mod reading;
mod rows;
#[cfg(test)]
mod samples;
mod text;
mod timeline;
mod trees;

use crate::failure::Failure;
use crate::record::Record;
use crate::scenario::Scenario;

/// All that a report is made of.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    pub scenario: &'a Scenario,
    pub seed: u64,
    pub failure: Option<&'a Failure>,
    /// The one command that shows it again.
    pub command: String,
    pub record: &'a Record,
}

/// What a timeline shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not only what matters: syncs, staging, the index, connections too.
    pub every_event: bool,
    /// Only events that touch it, faults and phases.
    pub path: Option<String>,
    /// Only events on it, and those of the world.
    pub node: Option<String>,
}

/// One page, complete in itself.
pub fn html(report: &Report<'_>) -> String {
    html::page(report).into_string()
}

/// One event a line, one column a node.
pub fn timeline(report: &Report<'_>, filter: &Filter) -> String {
    timeline::write(&model::Model::of(report), filter)
}

//! Whether uploads went past who was dead or cut off, in the time that the scenario gives.

use std::collections::BTreeSet;

use super::Run;
use crate::check::{Disturbance, Invariant, parts, split};
use crate::failure::Failure;
use crate::field::record::Fact;
use crate::field::tree::Leaf;
use crate::scenario::Event;

/// After each event that left fewer nodes reaching each other: of what was uploaded from then on,
/// something reached everybody in time. When, the file's own times tell.
pub(super) fn bypassed(run: &Run<'_>) -> Result<(), Failure> {
    let Some(within) = run.scenario.expect.bypass_within else { return Ok(()) };
    let within_ns = within.0.as_nanos() as u64;
    let disturbances = disturbances(run);
    for Disturbance { at_ns, what, parts } in &disturbances {
        let until_ns = at_ns + within_ns;
        let later = disturbances.iter().filter(|other| (*at_ns..until_ns).contains(&other.at_ns));
        let parts = later.fold(parts.clone(), |parts, other| split(&parts, &other.parts));
        let mut judged = false;
        for part in &parts {
            for node in part {
                let Some(arrived) = earliest(run, part, *node, *at_ns..until_ns) else { continue };
                judged = true;
                if arrived.is_none_or(|arrived| arrived > until_ns) {
                    let name = run.scenario.nodes[*node].as_str();
                    let sentence = format!(
                        "{what}, and of what was uploaded from then on nothing reached {name} within {:?}",
                        within.0
                    );
                    return Err(Failure::new(Invariant::Bypass, until_ns, sentence).on(name));
                }
            }
        }
        if !judged {
            let sentence = format!(
                "nothing was uploaded within {:?} after {what}: the scenario cannot show `bypass-within`",
                within.0
            );
            return Err(Failure::new(Invariant::Bypass, *at_ns, sentence));
        }
    }
    Ok(())
}

/// When the first of the uploads that others of the part finished in a span arrived on `node`; nothing
/// if there were none.
fn earliest(
    run: &Run<'_>,
    part: &BTreeSet<usize>,
    node: usize,
    span: std::ops::Range<u64>,
) -> Option<Option<u64>> {
    let name = |node: usize| run.scenario.nodes[node].as_str();
    let leaves = &run.hosts.get(name(node))?.tree.leaves;
    let mut any = false;
    let mut first = None;
    for other in part.iter().filter(|other| **other != node) {
        for line in &run.hosts.get(name(*other))?.record {
            let Fact::Finished { path, hash, .. } = &line.fact else { continue };
            if !span.contains(&run.since_ns(line.at_ms)) {
                continue;
            }
            any = true;
            if let Some(Leaf::File { hash: held, changed_ms, .. }) = leaves.get(path)
                && held == hash
            {
                let arrived = run.since_ns(*changed_ms);
                first = Some(first.map_or(arrived, |first: u64| first.min(arrived)));
            }
        }
    }
    any.then_some(first)
}

/// Moments from which fewer nodes reach each other.
fn disturbances(run: &Run<'_>) -> Vec<Disturbance> {
    let index = |name: &str| run.scenario.nodes.iter().position(|node| node.as_str() == name);
    let mut down: BTreeSet<usize> = BTreeSet::new();
    let mut cut: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut found = Vec::new();
    for happened in &run.happened {
        let Some(timed) = run.scenario.events.get(happened.event) else { continue };
        let node = timed.event.nodes().first().and_then(|name| index(name.get_ref()));
        let what = match (&timed.event, node) {
            (Event::Crash(_) | Event::PowerLoss(_) | Event::Stop(_), Some(node)) => {
                down.insert(node);
                let did = if matches!(timed.event, Event::Stop(_)) { "hung" } else { "died" };
                format!("{} {did}", run.scenario.nodes[node])
            }
            (Event::Start(_) | Event::Continue(_), Some(node)) => {
                down.remove(&node);
                continue;
            }
            (Event::Partition(partition), _) => {
                for (left, right) in pairs(&partition.between) {
                    if let Some(pair) = index(left).zip(index(right)) {
                        cut.insert(pair);
                    }
                }
                "the network was cut".to_owned()
            }
            (Event::Heal(_), _) => {
                cut.clear();
                continue;
            }
            _ => continue,
        };
        let living = (0..run.scenario.nodes.len()).filter(|node| !down.contains(node)).collect();
        let parts = parts(living, &cut);
        found.push(Disturbance { at_ns: run.since_ns(happened.at_ms), what, parts });
    }
    found
}

type Sides = (Vec<toml::Spanned<String>>, Vec<toml::Spanned<String>>);

fn pairs(between: &Sides) -> impl Iterator<Item = (&str, &str)> {
    let (left, right) = between;
    left.iter().flat_map(move |left| {
        right.iter().map(move |right| (left.get_ref().as_str(), right.get_ref().as_str()))
    })
}

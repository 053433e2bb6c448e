//! The limits of a share: its own, or those for all shares.

use std::collections::BTreeMap;
use std::time::Duration;

use chainsync_core::NodeName;
use chainsync_engine::config::{ArchiveLimits, Limits};
use toml::Spanned;

use super::durations::{LONGEST, Words};
use super::read::RawLimits;
use super::size::size;
use super::validate::Validation;

/// Less would refuse changes of clocks that are merely set badly.
const CLOCK_AHEAD_MIN: Duration = Duration::from_secs(60);

/// A single upload of 1 MiB takes 16 seconds then.
const BANDWIDTH_MIN: u64 = 64 << 10;

impl Validation<'_, '_> {
    /// `default`: what holds for keys that are not there.
    pub(super) fn limits(&mut self, raw: &RawLimits, default: &Limits) -> Limits {
        let number = |number: &Option<Spanned<u64>>| number.as_ref().map(|it| *it.get_ref());
        let generations = number(&raw.archive_generations);
        let age = self.span(&raw.archive_age, Duration::ZERO, "90d");
        let bytes = self.size(&raw.archive_size, true);
        let ahead = self.span(&raw.clock_ahead_max, CLOCK_AHEAD_MIN, "24h");
        Limits {
            max_file_size: self.size(&raw.max_file_size, false).or(default.max_file_size),
            mass_delete_max: number(&raw.mass_delete_max).unwrap_or(default.mass_delete_max),
            clock_ahead_max: ahead.unwrap_or(default.clock_ahead_max),
            archive: ArchiveLimits {
                generations: generations.unwrap_or(default.archive.generations),
                age: age.unwrap_or(default.archive.age),
                bytes: bytes.unwrap_or(default.archive.bytes),
            },
            free_space_min: self.size(&raw.free_space_min, true).or(default.free_space_min),
            ..default.clone()
        }
    }

    /// Of links to each node: its own limit, or that for all.
    pub(super) fn bandwidths(&mut self) -> BTreeMap<NodeName, u64> {
        let all = self.bandwidth(&self.raw.bandwidth_max);
        let mut bandwidths = BTreeMap::new();
        for node in &self.raw.nodes {
            let own = self.bandwidth(&node.bandwidth_max);
            if let (Ok(name), Some(limit)) = (NodeName::new(node.name.get_ref()), own.or(all)) {
                bandwidths.insert(name, limit);
            }
        }
        bandwidths
    }

    fn bandwidth(&mut self, text: &Option<Spanned<String>>) -> Option<u64> {
        let limit = self.size(text, false)?;
        if limit >= BANDWIDTH_MIN {
            return Some(limit);
        }
        let span = text.as_ref().map_or(0..0, Spanned::span);
        let title = "a link of less than 64 KiB a second is too slow to keep a ring together";
        self.error(
            span,
            title,
            "bytes a second",
            "write 64KiB or more, or leave it out for no limit",
        );
        None
    }

    fn span(
        &mut self,
        text: &Option<Spanned<String>>,
        min: Duration,
        usual: &str,
    ) -> Option<Duration> {
        let words = Words {
            noun: "duration here",
            bounds: format!("outside {min:?} to ten years"),
            why: "",
            usual: usual.to_owned(),
        };
        self.within(text.as_ref(), |span| (min..=LONGEST).contains(&span), &words)
    }

    /// `or_nothing`: whether 0 makes sense.
    fn size(&mut self, text: &Option<Spanned<String>>, or_nothing: bool) -> Option<u64> {
        let text = text.as_ref()?;
        match size(text.get_ref()) {
            Some(bytes) if bytes > 0 || or_nothing => Some(bytes),
            Some(_) => {
                let next = "leave it out for no limit";
                self.error(text.span(), "a limit of 0 bytes allows no file", "zero", next);
                None
            }
            None => {
                let title = format!("`{}` is not a size", text.get_ref().escape_debug());
                let label = "expected a whole number and a unit";
                let next = "write it as in \"500B\", \"64KiB\", \"20MB\" or \"2GiB\"";
                self.error(text.span(), title, label, next);
                None
            }
        }
    }
}

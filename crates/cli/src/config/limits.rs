//! The limits of a share: its own, or those for all shares.

use std::time::Duration;

use chainsync_engine::config::{ArchiveLimits, Limits};
use toml::Spanned;

use super::read::{Raw, RawShare};
use super::size::size;
use super::validate::Validation;
use crate::args::duration;

type Text<'r> = Option<&'r Spanned<String>>;
type Number<'r> = Option<&'r Spanned<u64>>;

/// The keys as they stand at the top level or in a share.
pub(super) struct Keys<'r> {
    max_file_size: Text<'r>,
    mass_delete_max: Number<'r>,
    clock_ahead_max: Text<'r>,
    archive_generations: Number<'r>,
    archive_age: Text<'r>,
    archive_size: Text<'r>,
    free_space_min: Text<'r>,
}

macro_rules! keys {
    ($from:expr) => {
        Keys {
            max_file_size: $from.max_file_size.as_ref(),
            mass_delete_max: $from.mass_delete_max.as_ref(),
            clock_ahead_max: $from.clock_ahead_max.as_ref(),
            archive_generations: $from.archive_generations.as_ref(),
            archive_age: $from.archive_age.as_ref(),
            archive_size: $from.archive_size.as_ref(),
            free_space_min: $from.free_space_min.as_ref(),
        }
    };
}

impl<'r> Keys<'r> {
    pub(super) fn top(raw: &'r Raw) -> Self {
        keys!(raw)
    }

    pub(super) fn share(share: &'r RawShare) -> Self {
        keys!(share)
    }
}

/// Less would refuse changes of clocks that are merely set badly.
const CLOCK_AHEAD_MIN: Duration = Duration::from_secs(60);
/// Ten years: for ever, as far as a daemon is concerned.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Validation<'_, '_> {
    pub(super) fn limits(&mut self, keys: Keys<'_>, default: &Limits) -> Limits {
        let archive = ArchiveLimits {
            generations: keys
                .archive_generations
                .map_or(default.archive.generations, |number| *number.get_ref()),
            age: self.span(keys.archive_age, Duration::ZERO, default.archive.age, "90d"),
            bytes: self.size(keys.archive_size, true).unwrap_or(default.archive.bytes),
        };
        let ahead = default.clock_ahead_max;
        Limits {
            max_file_size: self.size(keys.max_file_size, false).or(default.max_file_size),
            mass_delete_max: keys
                .mass_delete_max
                .map_or(default.mass_delete_max, |number| *number.get_ref()),
            clock_ahead_max: self.span(keys.clock_ahead_max, CLOCK_AHEAD_MIN, ahead, "24h"),
            archive,
            free_space_min: self.size(keys.free_space_min, true).or(default.free_space_min),
            ..default.clone()
        }
    }

    fn span(&mut self, text: Text<'_>, min: Duration, default: Duration, usual: &str) -> Duration {
        let Some(text) = text else { return default };
        let next = format!("the default is \"{usual}\"");
        match duration(text.get_ref()) {
            Ok(value) if (min..=LONGEST).contains(&value) => value,
            Ok(_) => {
                let title = format!("`{}` is no sensible duration here", text.get_ref());
                self.error(text.span(), title, format!("outside {min:?} to ten years"), next);
                default
            }
            Err(reason) => {
                self.error(text.span(), reason, "not a duration", next);
                default
            }
        }
    }

    /// `or_nothing`: whether 0 makes sense.
    fn size(&mut self, text: Text<'_>, or_nothing: bool) -> Option<u64> {
        let text = text?;
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

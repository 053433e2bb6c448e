//! Durations, and between what each of them makes sense.

use std::time::Duration;

use chainsync_engine::config::{
    DEAD_AFTER_DEFAULT, HEARTBEAT_DEFAULT, SWEEP_INTERVAL_DEFAULT, TOMBSTONE_AGE_DEFAULT,
};
use toml::Spanned;

use super::read::RawShare;
use super::validate::Validation;
use crate::args::duration;

/// Below, scheduling alone on a busy machine would read as a dead node.
const HEARTBEAT_MIN: Duration = Duration::from_millis(20);
/// Less often than this nobody would rely on it; more often is for tests.
const SWEEP_MIN: Duration = Duration::from_secs(1);
const SWEEP_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// A machine is down for a night, a clock is off by hours: what is deleted meanwhile must not be
/// forgotten before.
const TOMBSTONE_AGE_MIN: Duration = Duration::from_secs(24 * 3600);
/// Beyond an hour nobody would call it a heartbeat.
const BEAT_MAX: Duration = Duration::from_secs(3600);
/// Ten years: for ever, as far as a daemon is concerned.
pub(super) const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What is told about a duration that makes no sense.
pub(super) struct Words {
    /// It is no sensible one of these.
    pub(super) noun: &'static str,
    pub(super) bounds: String,
    /// Ahead of the default.
    pub(super) why: &'static str,
    /// The default, as one would write it.
    pub(super) usual: String,
}

impl Validation<'_, '_> {
    pub(super) fn rhythm(&mut self) -> (Duration, Duration) {
        let raw = self.raw;
        let heartbeat = self.beat(raw.heartbeat.as_ref(), HEARTBEAT_MIN, HEARTBEAT_DEFAULT);
        // A default follows its partner, so that changing one key of the two is enough.
        let dead_default = DEAD_AFTER_DEFAULT.max(heartbeat * 5);
        let dead_after = self.beat(raw.dead_after.as_ref(), HEARTBEAT_MIN * 2, dead_default);
        if let Some(dead) = raw.dead_after.as_ref().or(raw.heartbeat.as_ref())
            && dead_after < heartbeat * 2
        {
            let title = "`dead_after` is less than two heartbeats";
            let label = "one late heartbeat would count as a death";
            self.error(dead.span(), title, label, "leave room for two heartbeats at least");
        }
        (heartbeat, dead_after)
    }

    fn beat(
        &mut self,
        text: Option<&Spanned<String>>,
        min: Duration,
        default: Duration,
    ) -> Duration {
        let words = Words {
            noun: "duration here",
            bounds: format!("outside {min:?} to {BEAT_MAX:?}"),
            why: "",
            usual: format!("{default:?}"),
        };
        self.within(text, |beat| (min..=BEAT_MAX).contains(&beat), &words).unwrap_or(default)
    }

    /// A share's own, or the one for all shares. Zero switches it off.
    pub(super) fn sweep_interval(&mut self, share: &RawShare) -> Duration {
        let text = share.sweep_interval.as_ref().or(self.raw.sweep_interval.as_ref());
        let words = Words {
            noun: "interval between sweeps",
            bounds: "from a second to 30 days, or \"0s\" for never".to_owned(),
            why: "",
            usual: "1h".to_owned(),
        };
        let makes_sense =
            |every: Duration| every.is_zero() || (SWEEP_MIN..=SWEEP_MAX).contains(&every);
        self.within(text, makes_sense, &words).unwrap_or(SWEEP_INTERVAL_DEFAULT)
    }

    /// A share's own, or the one for all shares.
    pub(super) fn tombstone_age(&mut self, share: &RawShare) -> Duration {
        let text = share.tombstone_age.as_ref().or(self.raw.tombstone_age.as_ref());
        let words = Words {
            noun: "age for deletions",
            bounds: "from a day to ten years".to_owned(),
            why: "no node may be away, and no clock be off, for longer; ",
            usual: "30d".to_owned(),
        };
        let makes_sense = |age| (TOMBSTONE_AGE_MIN..=LONGEST).contains(&age);
        self.within(text, makes_sense, &words).unwrap_or(TOMBSTONE_AGE_DEFAULT)
    }

    /// What is written, if it makes sense; an error says why it does not.
    pub(super) fn within(
        &mut self,
        text: Option<&Spanned<String>>,
        makes_sense: impl FnOnce(Duration) -> bool,
        words: &Words,
    ) -> Option<Duration> {
        let text = text?;
        let next = format!("the default is \"{}\"", words.usual);
        match duration(text.get_ref()) {
            Ok(value) if makes_sense(value) => return Some(value),
            Ok(_) => {
                let title = format!("`{}` is no sensible {}", text.get_ref(), words.noun);
                self.error(text.span(), title, &words.bounds, format!("{}{next}", words.why));
            }
            Err(reason) => self.error(text.span(), reason, "not a duration", next),
        }
        None
    }
}

//! Events of the disk: calls that fail, a quota, and what a machine is like.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::Name;
use super::units::{Size, Span};
use crate::fs::{CallClass, Chance, Fault, Trouble};

/// Some of the daemon's calls fail, or are slow.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DiskFaultEvent {
    pub node: Name,
    pub error: Trouble,
    /// Which calls; without it, all that can fail like this, those of the index left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub on: BTreeSet<CallClass>,
    /// Of these, one in so many; without it and `at-operation`, each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<NonZeroU64>,
    /// Only this one of these, counted from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_operation: Option<NonZeroU64>,
    /// Without it, until everything is healed.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// How late a `slow` call is at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Span>,
}

/// The daemon may have the disk filled up to here, and no further.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct QuotaEvent {
    pub node: Name,
    /// Of all that is on the disk; without it, there is no quota any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
}

impl DiskFaultEvent {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.one_in.is_some() && self.at_operation.is_some() {
            return Err("`one-in` and `at-operation` exclude each other");
        }
        if self.by.is_some() && self.error != Trouble::Slow {
            return Err("`by` is for `slow` calls");
        }
        if self.on.iter().any(|class| !self.error.befalls(*class)) {
            return Err("some of the calls named in `on` cannot fail like this");
        }
        Ok(())
    }

    pub fn fault(&self, now_ns: u64) -> Fault {
        let on = if self.on.is_empty() { self.error.usual() } else { self.on.clone() };
        let chance = match (self.at_operation, self.one_in) {
            (Some(number), _) => Chance::At(number.get()),
            (None, one_in) => Chance::OneIn(one_in.map_or(1, NonZeroU64::get)),
        };
        let nanoseconds = |span: Span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX);
        let until_ns =
            self.lasts.map_or(u64::MAX, |lasts| now_ns.saturating_add(nanoseconds(lasts)));
        let late_ns = nanoseconds(self.by.unwrap_or(LATE_DEFAULT));
        Fault { trouble: self.error, on, chance, until_ns, late_ns }
    }
}

/// A disk that was asleep, or a busy array.
const LATE_DEFAULT: Span = Span(Duration::from_millis(100));

#[cfg(test)]
mod tests {
    use crate::fs::{CallClass, Chance, Trouble};
    use crate::scenario::{Event, Scenario};

    fn scenario(tables: &str) -> Result<Scenario, String> {
        let head = "about = \"x\"\non = [\"sim\"]\nnodes = [\"apollo\", \"chronos\"]\n";
        let scenario = Scenario::parse("x.toml", &format!("{head}{tables}"))
            .map_err(|error| error.to_string())?;
        scenario.check_simulated().map_err(|error| error.to_string())?;
        Ok(scenario)
    }

    fn event(event: &str) -> Result<Event, String> {
        Ok(scenario(&format!("[[at]]\ntime = \"1s\"\n{event}"))?.events.remove(0).event)
    }

    #[test]
    fn a_fault_says_which_calls_it_hits() {
        let usual = event(r#"disk-fault = { node = "apollo", error = "EMFILE" }"#).unwrap();
        let Event::DiskFault(usual) = usual else { panic!("{usual:?}") };
        let fault = usual.fault(7);
        assert_eq!(fault.on.into_iter().collect::<Vec<_>>(), [CallClass::Open, CallClass::Create]);
        assert_eq!((fault.chance, fault.until_ns), (Chance::OneIn(1), u64::MAX));
        let exact = event(
            r#"disk-fault = { node = "apollo", error = "EIO", on = ["index-sync"], at-operation = 9, for = "2s" }"#,
        )
        .unwrap();
        assert_eq!(exact.lasts().as_secs(), 2);
        let Event::DiskFault(exact) = exact else { panic!("{exact:?}") };
        let fault = exact.fault(7);
        assert_eq!(fault.trouble, Trouble::Io);
        assert_eq!((fault.chance, fault.until_ns), (Chance::At(9), 2_000_000_007));
        // As it is written, it is read.
        let written = toml::to_string(&Event::DiskFault(exact)).unwrap();
        assert!(
            written.contains("error = \"EIO\"") && written.contains("for = \"2s\""),
            "{written}"
        );
        assert!(!written.contains("one-in"), "{written}");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (source, word) in [
            (r#"disk-fault = { node = "apollo", error = "EBADF" }"#, "unknown variant"),
            (
                r#"disk-fault = { node = "apollo", error = "EIO", on = ["fsync"] }"#,
                "unknown variant",
            ),
            (
                r#"disk-fault = { node = "apollo", error = "ENOSPC", on = ["read"] }"#,
                "cannot fail like this",
            ),
            (
                r#"disk-fault = { node = "apollo", error = "EIO", one-in = 2, at-operation = 3 }"#,
                "exclude each other",
            ),
            (r#"disk-fault = { node = "apollo", error = "EIO", by = "1s" }"#, "`slow` calls"),
            (r#"disk-fault = { node = "zeus", error = "EIO" }"#, "no node `zeus`"),
            (r#"mount-root = { node = "apollo" }"#, "is mounted already"),
        ] {
            let message = event(source).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn machines_are_like_all_or_by_themselves() {
        let tables =
            "[machine]\ntick = \"4ms\"\ncapacity = \"1MiB\"\n[machines.apollo]\ntick = \"0s\"\n";
        let scenario = scenario(tables).unwrap();
        let (apollo, chronos) = (scenario.knobs("apollo"), scenario.knobs("chronos"));
        assert_eq!(apollo.tick.unwrap().0.as_millis(), 0);
        assert_eq!(chronos.tick.unwrap().0.as_millis(), 4);
        assert_eq!(apollo.capacity, chronos.capacity);
        let message = self::scenario("[machines.zeus]\ntick = \"0s\"\n").unwrap_err();
        assert!(message.contains("no node `zeus`") && message.contains("x.toml:4:"), "{message}");
    }
}

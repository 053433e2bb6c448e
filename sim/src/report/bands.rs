//! Faults that last, as stretches of the lanes they are on.

use crate::scenario::Event as Planned;

use super::Report;
use super::model::planned;

/// What a lane suffers for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suffering {
    Down,
    Hung,
    /// Some of the network loses what is sent.
    Cut,
    /// Some of the network delivers later.
    Held,
    Full,
    /// A limit of watches, a wrong clock, calls that fail.
    Impaired,
}

impl Suffering {
    pub(super) fn name(self) -> &'static str {
        match self {
            Suffering::Down => "down",
            Suffering::Hung => "hung",
            Suffering::Cut => "cut",
            Suffering::Held => "held",
            Suffering::Full => "full",
            Suffering::Impaired => "impaired",
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Suffering::Down => "down",
            Suffering::Hung => "hung",
            Suffering::Cut => "cut off",
            Suffering::Held => "held back",
            Suffering::Full => "disk full",
            Suffering::Impaired => "impaired",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band {
    pub lane: usize,
    pub suffering: Suffering,
    pub from_ns: u64,
    /// `u64::MAX`: until the end.
    pub until_ns: u64,
}

/// All bands of a run, in the order in which they end.
pub(super) fn of(report: &Report<'_>, lanes: &[String]) -> Vec<Band> {
    let mut open = Open::default();
    for (event, planned) in planned(report) {
        let (at, lane) = (event.at_ns, lanes.iter().position(|lane| lane == event.node));
        match (event.kind, lane) {
            ("fall" | "end", Some(lane)) => open.begin(lane, Suffering::Down, at),
            ("start", Some(lane)) => open.finish(Some(lane), &[Suffering::Down], at),
            ("heal", _) => {
                use Suffering::{Cut, Full, Held, Hung, Impaired};
                open.finish(None, &[Cut, Full, Held, Hung, Impaired], at);
            }
            _ => {}
        }
        let Some(planned) = planned else { continue };
        let on: Vec<usize> = planned
            .nodes()
            .iter()
            .filter_map(|name| lanes.iter().position(|lane| lane == name.get_ref()))
            .collect();
        let begins = match planned {
            Planned::Crash(death) if death.before_operation.is_none() => Some(Suffering::Down),
            Planned::PowerLoss(loss) if loss.before_operation.is_none() => Some(Suffering::Down),
            Planned::Stop(_) => Some(Suffering::Hung),
            Planned::Partition(_) => Some(Suffering::Cut),
            Planned::Hold(_) => Some(Suffering::Held),
            Planned::DiskFull(_) => Some(Suffering::Full),
            Planned::Quota(quota) if quota.bytes.is_some() => Some(Suffering::Full),
            Planned::Clock(_) | Planned::WatchLimit(_) | Planned::DiskFault(_) => {
                Some(Suffering::Impaired)
            }
            _ => None,
        };
        let ends: &[Suffering] = match planned {
            // A process that was stopped and then killed hangs no more.
            Planned::Continue(_) | Planned::Crash(_) | Planned::PowerLoss(_) => &[Suffering::Hung],
            Planned::DiskFree(_) | Planned::Quota(_) => &[Suffering::Full],
            _ => &[],
        };
        for lane in &on {
            open.finish(Some(*lane), ends, at);
        }
        if let Planned::Heal(_) = planned {
            open.finish(None, &[Suffering::Cut, Suffering::Held], at);
        }
        for lane in on {
            if let Some(suffering) = begins {
                open.begin(lane, suffering, at);
                if let Planned::DiskFault(fault) = planned
                    && let Some(lasts) = fault.lasts
                {
                    let until = at.saturating_add(lasts.0.as_nanos() as u64);
                    open.finish(Some(lane), &[Suffering::Impaired], until);
                }
            }
        }
    }
    open.finished.extend(open.begun);
    open.finished
}

#[derive(Default)]
struct Open {
    begun: Vec<Band>,
    finished: Vec<Band>,
}

impl Open {
    fn begin(&mut self, lane: usize, suffering: Suffering, from_ns: u64) {
        if !self.begun.iter().any(|band| (band.lane, band.suffering) == (lane, suffering)) {
            self.begun.push(Band { lane, suffering, from_ns, until_ns: u64::MAX });
        }
    }

    /// Ends what `lane` suffers of these, or what all lanes do.
    fn finish(&mut self, lane: Option<usize>, sufferings: &[Suffering], at_ns: u64) {
        let ends = |band: &Band| {
            lane.is_none_or(|lane| lane == band.lane) && sufferings.contains(&band.suffering)
        };
        let (ended, begun) = std::mem::take(&mut self.begun).into_iter().partition(ends);
        self.begun = begun;
        let ended: Vec<Band> = ended;
        self.finished.extend(ended.into_iter().map(|band| Band { until_ns: at_ns, ..band }));
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::Sample;
    use super::*;

    #[test]
    fn a_fault_lasts_from_its_event_to_its_end() {
        let sample = Sample::faults();
        let bands = of(&sample.report(), &["apollo", "chronos", "hermes"].map(String::from));
        let band = |lane, suffering, from_ms: u64, until_ms: u64| Band {
            lane,
            suffering,
            from_ns: from_ms * 1_000_000,
            until_ns: until_ms.saturating_mul(1_000_000),
        };
        assert_eq!(
            bands,
            [
                band(1, Suffering::Hung, 1_000, 2_000),
                band(0, Suffering::Cut, 2_500, 3_000),
                band(2, Suffering::Cut, 2_500, 3_000),
                band(1, Suffering::Down, 2_000, 4_000),
                band(2, Suffering::Full, 3_500, 5_000),
                // Falls by itself, before some operation, and does not come back.
                band(0, Suffering::Down, 6_000, u64::MAX),
            ]
        );
    }
}

//! What a machine is like: as the scenario says, else drawn.

use super::disk::DiskOptions;
use crate::rng::Stream;
use crate::scenario::{MachineKnobs, Span, SpanRange};

/// Ticks of kernels before 6.13: `CONFIG_HZ` is 1000, 250 (most distributions) or 100.
const TICKS_NS: [i128; 3] = [1_000_000, 4_000_000, 10_000_000];
/// What the host reports where changes are stamped in ticks, whatever their length.
const REPORTED_TICK_NS: i128 = 20_000_000;
/// So short a queue overflows in every burst.
const WATCH_QUEUE_SHORT: usize = 32;

impl DiskOptions {
    /// The machine of `node`. All is drawn, and then what is given takes its place: one knob more in
    /// a plan does not turn the others.
    pub fn draw(seed: u64, node: &str, knobs: &MachineKnobs) -> Self {
        let mut stream = Stream::new(seed, "knobs", node);
        let defaults = Self::default();
        let old_kernel = stream.one_in(2);
        let tick_ns = TICKS_NS[stream.between(0, TICKS_NS.len() as u64 - 1) as usize];
        let short_queue = stream.one_in(4);
        let tick_ns = match knobs.tick {
            Some(Span(tick)) => i128::try_from(tick.as_nanos()).unwrap_or(0),
            None if old_kernel => tick_ns,
            None => 0,
        };
        let queue = if short_queue { WATCH_QUEUE_SHORT } else { defaults.watch_queue_max };
        Self {
            ctime_coarse_ns: tick_ns,
            ctime_tick_ns: if tick_ns > 0 { REPORTED_TICK_NS } else { 0 },
            watch_queue_max: knobs
                .watch_queue
                .map_or(queue, |queue| usize::try_from(queue).unwrap_or(usize::MAX)),
            watch_delay_ns: knobs.watch_delay.map_or(defaults.watch_delay_ns, nanoseconds),
            capacity_bytes: knobs.capacity.map_or(defaults.capacity_bytes, |size| size.0),
            call_ns: knobs.calls.map_or(defaults.call_ns, nanoseconds),
            ..defaults
        }
    }
}

fn nanoseconds(SpanRange { from, to }: SpanRange) -> (u64, u64) {
    let nanoseconds =
        |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    (nanoseconds(from), nanoseconds(to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Disk;
    use crate::shared::Shared;
    use crate::trace::Trace;

    #[test]
    fn a_clock_that_drifts_gains_what_it_says() {
        let shared = Shared::new(1, Trace::new(None));
        let mut disk = Disk::new(shared, "apollo", 0, DiskOptions::default());
        disk.advance(1_000_000_000);
        disk.set_clock(-7, 500);
        let before = disk.wall_ns();
        disk.advance(2_000_000_000);
        assert_eq!(disk.wall_ns() - before, 2_001_000_000);
        disk.set_clock(0, -500);
        let before = disk.wall_ns();
        disk.advance(2_000_000_000);
        assert_eq!(disk.wall_ns() - before, 1_999_000_000);
    }

    #[test]
    fn what_is_given_does_not_turn_what_is_drawn() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let drawn = DiskOptions::draw(seed, "apollo", &MachineKnobs::default());
            kinds.insert((drawn.ctime_coarse_ns, drawn.watch_queue_max));
            let tick = Some("1us".parse().unwrap());
            let given =
                DiskOptions::draw(seed, "apollo", &MachineKnobs { tick, ..Default::default() });
            assert_eq!((given.ctime_coarse_ns, given.ctime_tick_ns), (1_000, 20_000_000));
            assert_eq!(given.watch_queue_max, drawn.watch_queue_max);
        }
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }
}

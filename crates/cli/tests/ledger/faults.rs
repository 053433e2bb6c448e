//! Daemons that are killed, stopped and started again while everybody writes.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::daemons::{NODES, Ring};
use crate::draw::Draw;
use crate::ledger::Ledger;

/// Dead for at most so long; sometimes it is back at once.
const DEAD_MS: [u64; 3] = [50, 1000, 4000];
/// Stopped for at most so long: some beyond `dead_after`, which is 5 s.
const STOPPED_MS: [u64; 3] = [100, 1500, 8000];
/// From one fault to the next, at most.
const PAUSE_MS_MAX: u64 = 3000;

enum State {
    Runs,
    Dead(Instant),
    Stopped(Instant),
}

#[derive(Default)]
pub struct Count {
    pub kills: u64,
    pub stops: u64,
}

/// Until `deadline`, or until something is wrong. All daemons run in the end.
pub fn rage(ring: &mut Ring, ledger: &Ledger, mut draw: Draw, deadline: Instant) -> Count {
    let mut states = [State::Runs, State::Runs, State::Runs];
    let mut count = Count::default();
    let mut written_out = Instant::now();
    let mut next = Instant::now() + Duration::from_secs(2);
    while Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        for (index, state) in states.iter_mut().enumerate() {
            recover(ring, ledger, index, state, false);
            if matches!(state, State::Runs)
                && let Some(status) = ring.has_ended(index)
            {
                let words = ring.words(index);
                ledger.violated(format!("{} ended by itself: {status}\n{words}", NODES[index]));
            }
        }
        if !ledger.violations().is_empty() {
            // Nobody is sent a signal who may be gone.
            break;
        }
        if written_out.elapsed() > Duration::from_secs(1) {
            ledger.write_out();
            written_out = Instant::now();
        }
        if Instant::now() < next {
            continue;
        }
        next = Instant::now() + Duration::from_millis(draw.below(PAUSE_MS_MAX));
        let index = draw.below(3) as usize;
        let kill = draw.below(3) > 0;
        let mut after = |choices: [u64; 3]| {
            let longest = choices[draw.below(3) as usize];
            Instant::now() + Duration::from_millis(draw.below(longest))
        };
        match (&states[index], kill) {
            // A stopped one is killed, too.
            (State::Runs | State::Stopped(_), true) => {
                ledger.note(&format!("FAULT {} is killed", NODES[index]));
                ring.kill(index);
                count.kills += 1;
                states[index] = State::Dead(after(DEAD_MS));
            }
            (State::Runs, false) => {
                ledger.note(&format!("FAULT {} is stopped", NODES[index]));
                ring.signal(index, Signal::STOP);
                count.stops += 1;
                states[index] = State::Stopped(after(STOPPED_MS));
            }
            _ => {}
        }
    }
    for (index, state) in states.iter_mut().enumerate() {
        recover(ring, ledger, index, state, true);
    }
    count
}

fn recover(ring: &mut Ring, ledger: &Ledger, index: usize, state: &mut State, now: bool) {
    let due = |at: &Instant| now || *at <= Instant::now();
    match state {
        State::Dead(until) if due(until) => {
            ring.spawn(index);
            ledger.note(&format!("FAULT {} is started", NODES[index]));
        }
        State::Stopped(until) if due(until) => {
            ledger.note(&format!("FAULT {} goes on", NODES[index]));
            ring.signal(index, Signal::CONT);
        }
        _ => return,
    }
    *state = State::Runs;
}

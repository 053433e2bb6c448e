//! The last question of a run: `chainsync verify` has to see what the checkers saw.
//!
//! The checkers have found all trees equal by then, so the daemons have to say the same; and if a
//! disk has rotted since, which no watcher tells, the daemon that reads every content has to find it.

use std::time::Duration;

use chainsync_engine::answers::VerifyReport;

use crate::check::{Invariant, SHARE};
use crate::failure::Failure;
use crate::fs::Defect;
use crate::shared::lock;
use crate::world::World;

/// Three trees of thousands of files, contents read.
const ANSWER_MAX: Duration = Duration::from_secs(120);

pub(crate) fn agree(world: &mut World) -> Result<(), Failure> {
    let rots = lock(&world.machines[0].disk).options.defect == Some(Defect::Rots);
    if rots {
        for machine in &world.machines[1..] {
            lock(&machine.disk).rot(SHARE.as_bytes());
        }
    }
    // Every fourth run reads the contents as well: it costs virtual seconds.
    let deep = rots || world.shared.seed.is_multiple_of(4);
    let report = ask(world, deep)?;
    if report.equal {
        return Ok(());
    }
    let sentence = format!("the trees are equal, and verify does not say so: {report:?}");
    Err(Failure::new(Invariant::Verify, world.now_ns(), sentence).on(&world.machines[0].name))
}

fn ask(world: &mut World, deep: bool) -> Result<VerifyReport, Failure> {
    world.shared.event("-", "phase", format_args!("verify deep {deep}"));
    world.machines[0].ask_to_verify(deep);
    let deadline = world.elapsed() + ANSWER_MAX;
    while world.elapsed() < deadline {
        world.step()?;
        if let Some(mut reports) = world.machines[0].verified()
            && let Some(report) = reports.pop()
        {
            return Ok(report);
        }
    }
    let sentence = format!("verify gave no answer within {ANSWER_MAX:?}");
    Err(Failure::new(Invariant::Verify, world.now_ns(), sentence).on(&world.machines[0].name))
}

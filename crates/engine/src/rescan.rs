//! `rescan`: a sweep of the whole tree, now; or only what it would find.

use std::sync::Arc;

use chainsync_core::RelPath;
use chainsync_env::Env;
use tokio::time::Instant;

use crate::answers::{FoundPath, RescanReport};
use crate::share::{Share, ShareError};
use crate::survey::{Found, Ground, Survey};

/// Paths listed by a dry run.
const PATHS_SHOWN_MAX: usize = 1000;

impl<E: Env> Share<E> {
    /// Looks at everything, and returns when a sweep that began after the call is complete.
    pub async fn rescan(self: &Arc<Self>) -> Result<RescanReport, ShareError> {
        let began = Instant::now();
        let mut report = self.new_report(false);
        let mut done = self.sweeping.done.subscribe();
        // The one under way may have passed by already.
        let busy = self.board.view().sweeping || !*self.ready.borrow();
        let wanted = *done.borrow() + 1 + u64::from(busy);
        let earlier = self.sweeping.found();
        self.hints.add_everything();
        let mut moving = self.board.moving.subscribe();
        loop {
            if let Some(reason) = self.board.halted() {
                report.refused = Some(reason);
                break;
            }
            let reached = *done.borrow_and_update();
            if reached >= wanted {
                break;
            }
            if reached + 1 == wanted {
                // The one that was under way has ended and may have taken our wish along.
                self.hints.add_everything();
            }
            tokio::select! {
                biased;
                _ = done.changed() => {}
                _ = moving.wait_for(|moving| !*moving) => {}
            }
        }
        self.sweeping.found().since(earlier, &mut report);
        report.problems = self.board.problems() as u64;
        report.entries = self.index.state().entries;
        report.elapsed_ms = elapsed_ms(began);
        Ok(report)
    }

    /// What a sweep would record, without recording it.
    pub async fn rescan_dry(self: &Arc<Self>) -> Result<RescanReport, ShareError> {
        let began = Instant::now();
        let mut report = self.new_report(true);
        let mut survey = Survey::new();
        loop {
            let (next, found) = self.survey_step(survey, false).await?;
            survey = next;
            if found.is_empty() {
                break;
            }
            for (path, found) in found {
                note(&mut report, &path, found);
            }
        }
        report.entries = self.index.state().entries;
        report.elapsed_ms = elapsed_ms(began);
        Ok(report)
    }

    fn new_report(&self, dry_run: bool) -> RescanReport {
        let share = self.config.name.to_string();
        RescanReport { share, dry_run, ..RescanReport::default() }
    }

    /// The next paths of a survey of this share, held against the index as it is now.
    pub async fn survey_step(
        self: &Arc<Self>,
        mut survey: Survey,
        deep: bool,
    ) -> Result<(Survey, Vec<(RelPath, Found)>), ShareError> {
        let share = self.clone();
        let step = self.env.blocking(move || {
            let found = share.on_ground(deep, |ground| survey.step(ground));
            found.map(|found| (survey, found))
        });
        step.await
    }

    /// Looks at the share's disk from where a survey looks.
    pub fn on_ground<R>(
        &self,
        deep: bool,
        look: impl FnOnce(&Ground<'_, E::Vfs>) -> std::io::Result<R>,
    ) -> Result<R, ShareError> {
        let excluded = |path: &RelPath, is_dir: bool| self.is_excluded(path, is_dir);
        let ground = Ground {
            vfs: &self.vfs,
            device: self.device,
            owner: self.config.owner,
            excluded: &excluded,
            reader: Some(self.index.read()?),
            deep,
        };
        look(&ground).map_err(ShareError::disk("looking at the tree"))
    }
}

fn note(report: &mut RescanReport, path: &RelPath, found: Found) {
    let (what, detail) = match found {
        Found::Nothing | Found::Same(_) | Found::Implied | Found::Excluded => return,
        Found::New(kind) => {
            report.created += 1;
            ("created", kind.noun().to_owned())
        }
        Found::Changed { was, is } => {
            report.changed += 1;
            ("changed", crate::verify::differing(&was, &is).join(", "))
        }
        Found::Gone(was) => {
            report.deleted += 1;
            ("deleted", was.noun().to_owned())
        }
        Found::Writing(_) => {
            report.writing += 1;
            return;
        }
        Found::Problem(reason) => {
            report.problems += 1;
            ("problem", reason)
        }
    };
    if report.paths.len() >= PATHS_SHOWN_MAX {
        report.more = true;
        return;
    }
    report.paths.push(FoundPath { path: path.to_string(), what: what.to_owned(), detail });
}

pub fn elapsed_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

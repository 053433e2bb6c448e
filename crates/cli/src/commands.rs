//! `verify`, `pause`, `resume`, `rescan` and `conflicts`: asks the daemon and shows what it says.

use std::time::Duration;

use chainsync_engine::answers::{
    ConflictList, MoveReport, RescanReport, RestoreReport, VerifyReport,
};

use crate::args;
use crate::control::{ANSWER_TIMEOUT, Client, Request};
use crate::failure::{Exit, Failure};
use crate::names;
use crate::output::{print, print_json};
use crate::show::{Now, commands as show};

/// Contents are read at 100 MB/s at least: an hour is 360 GB.
const DEEP_TIMEOUT: Duration = Duration::from_secs(3600);
const SHALLOW_TIMEOUT: Duration = Duration::from_secs(60);
/// A sweep of the largest tree, on the slowest disk.
const RESCAN_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Restoring waits for the batch that is being applied.
const RESTORE_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn verify(options: &args::Verify) -> Result<Exit, Failure> {
    let usual = if options.deep { DEEP_TIMEOUT } else { SHALLOW_TIMEOUT };
    let timeout = options.timeout.unwrap_or(usual);
    let request = Request::Verify {
        share: options.control.share.clone(),
        deep: options.deep,
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let patience = timeout.saturating_add(ANSWER_TIMEOUT);
    let reports: Vec<VerifyReport> = ask(&options.control, &request, patience)?;
    shown(&options.control, &reports, || show::verify(&reports));
    Ok(good(reports.iter().all(|report| report.equal)))
}

pub(crate) fn pause(options: &args::Control) -> Result<Exit, Failure> {
    let request = Request::Pause { share: options.share.clone() };
    let reports: Vec<MoveReport> = ask(options, &request, ANSWER_TIMEOUT * 2)?;
    shown(options, &reports, || show::paused(&reports));
    Ok(Exit::Good)
}

pub(crate) fn resume(options: &args::Resume) -> Result<Exit, Failure> {
    let (share, accept_deletes) = (options.control.share.clone(), options.accept_deletes);
    let request = Request::Resume { share, accept_deletes };
    let reports: Vec<MoveReport> = ask(&options.control, &request, ANSWER_TIMEOUT)?;
    shown(&options.control, &reports, || show::resumed(&reports));
    let refused = reports.iter().any(|report| report.refused.is_some());
    Ok(if refused { Exit::Refused } else { Exit::Good })
}

pub(crate) fn rescan(options: &args::Rescan) -> Result<Exit, Failure> {
    let (share, dry_run) = (options.control.share.clone(), options.dry_run);
    let request = Request::Rescan { share, dry_run };
    let reports: Vec<RescanReport> = ask(&options.control, &request, RESCAN_PATIENCE)?;
    shown(&options.control, &reports, || show::rescanned(&reports));
    let refused = reports.iter().any(|report| report.refused.is_some());
    Ok(if refused { Exit::Refused } else { Exit::Good })
}

pub(crate) fn conflicts(options: &args::Conflicts) -> Result<Exit, Failure> {
    let control = &options.control;
    let share = control.share.clone();
    match &options.action {
        None | Some(args::ConflictAction::List) => {
            let request = Request::Conflicts { share, id: None, path: None };
            let lists: Vec<ConflictList> = ask(control, &request, ANSWER_TIMEOUT)?;
            shown(control, &lists, || show::conflicts(&lists, &Now::here()));
            Ok(Exit::Good)
        }
        Some(args::ConflictAction::Show { which }) => {
            let (id, path) = meant(which);
            let request = Request::Conflicts { share, id, path };
            let lists: Vec<ConflictList> = ask(control, &request, ANSWER_TIMEOUT)?;
            if lists.iter().all(|list| list.conflicts.is_empty()) {
                return Err(Failure::new(
                    Exit::No,
                    format!("no conflict {} is known here", names::shown(which)),
                    "`chainsync conflicts list` shows them all",
                ));
            }
            shown(control, &lists, || show::conflict(&lists, &Now::here()));
            Ok(Exit::Good)
        }
        Some(args::ConflictAction::Restore { which, to }) => {
            let (id, path) = meant(which);
            let to = to.as_deref().map(names::shown);
            let request = Request::Restore { share, id, path, to };
            let report: RestoreReport = ask(control, &request, RESTORE_PATIENCE)?;
            shown(control, &report, || show::restored(&report));
            Ok(good(report.refused.is_none()))
        }
    }
}

/// A number is an id; a file whose name is a number is `./7`.
fn meant(which: &std::ffi::OsStr) -> (Option<u64>, Option<String>) {
    match which.to_str().map(str::parse::<u64>) {
        Some(Ok(id)) => (Some(id), None),
        _ => {
            let shown = names::shown(which);
            (None, Some(shown.strip_prefix("./").map_or(shown.clone(), str::to_owned)))
        }
    }
}

fn ask<T: serde::de::DeserializeOwned>(
    control: &args::Control,
    request: &Request,
    patience: Duration,
) -> Result<T, Failure> {
    Ok(Client::new(&control.socket).ask(request, patience)?)
}

fn shown(control: &args::Control, answer: &impl serde::Serialize, text: impl FnOnce() -> String) {
    match control.json {
        true => print_json(answer),
        false => print(&text()),
    };
}

fn good(good: bool) -> Exit {
    if good { Exit::Good } else { Exit::No }
}

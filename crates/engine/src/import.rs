//! `run --dry-run`: what a first import would take in. Reads names and sizes, no contents; makes
//! nothing, neither index nor marker.

use chainsync_core::{FileType, RelPath};
use chainsync_env::{Env, Vfs};

use crate::answers::{FoundPath, ImportReport};
use crate::config::ShareConfig;
use crate::disk::{Dirs, is_own};
use crate::exclude::Exclude;
use crate::node::StartError;

/// Excluded names and problems that are listed.
const PATHS_SHOWN_MAX: usize = 1000;

/// What the first import of a share would take in.
pub fn preview<E: Env>(env: &E, share: &ShareConfig) -> Result<ImportReport, StartError> {
    let fail = |error: &dyn std::fmt::Display| StartError::Share {
        share: share.name.clone(),
        reason: format!("cannot read {}: {error}", share.path.display()),
    };
    let vfs = env.open_root(&share.path).map_err(|error| fail(&error))?;
    let exclude = Exclude::new(&share.exclude).map_err(|error| fail(&error))?;
    let root = vfs.open_dir(None).map_err(|error| fail(&error))?;
    let device = vfs.stat_dir(&root).map_err(|error| fail(&error))?.device;
    let mut report = ImportReport {
        share: share.name.to_string(),
        path: share.path.display().to_string(),
        ..ImportReport::default()
    };
    let mut open = vec![None];
    while let Some(dir) = open.pop() {
        let mut dirs = Dirs::new(&vfs);
        let listed = dirs.dir(dir.as_ref()).and_then(|opened| vfs.list(&opened));
        let listed = match (listed, &dir) {
            (Ok(listed), _) => listed,
            (Err(error), Some(dir)) => {
                note(&mut report, &dir.to_string(), "problem", &error);
                continue;
            }
            (Err(error), None) => return Err(fail(&error)),
        };
        for entry in listed {
            let path = match RelPath::child(dir.as_ref(), &entry.name) {
                Ok(path) if is_own(&path) => continue,
                Ok(path) => path,
                Err(error) => {
                    let at = dir.as_ref().map_or_else(|| ".".to_owned(), ToString::to_string);
                    note(&mut report, &at, "problem", &error);
                    continue;
                }
            };
            if take_in(&mut report, &vfs, &mut dirs, &exclude, device, &path) {
                open.push(Some(path));
            }
        }
    }
    Ok(report)
}

/// Counts one path; says whether it is a directory to go into.
fn take_in<V: Vfs>(
    report: &mut ImportReport,
    vfs: &V,
    dirs: &mut Dirs<'_, V>,
    exclude: &Exclude,
    device: u64,
    path: &RelPath,
) -> bool {
    let shown = path.to_string();
    let stat = match dirs.stat(path) {
        Ok(Some(stat)) => stat,
        Ok(None) => return false,
        Err(error) => {
            note(report, &shown, "problem", &error);
            return false;
        }
    };
    let is_dir = stat.file_type == FileType::Dir;
    if exclude.matches(path, is_dir) {
        note(report, &shown, "excluded", &"");
        return false;
    }
    if let chainsync_core::decide::Seen::Unsupported(what) =
        chainsync_core::decide::see(None, Some(&stat), device)
    {
        note(report, &shown, "problem", &what);
        return false;
    }
    match stat.file_type {
        FileType::Dir => report.directories += 1,
        FileType::Symlink => report.symlinks += 1,
        _ => {
            // Opened, because only that shows whether it may be read; and told whether it is at rest.
            let opened = dirs.parent(path).and_then(|dir| vfs.open_file(&dir, path.name()));
            match opened.and_then(|file| vfs.has_writer(&file)) {
                Ok(writer) => {
                    report.files += 1;
                    report.bytes += stat.size;
                    report.writing += u64::from(writer == Some(true));
                }
                Err(error) => note(report, &shown, "problem", &error),
            }
        }
    }
    is_dir
}

fn note(report: &mut ImportReport, path: &str, what: &str, detail: &dyn std::fmt::Display) {
    match what {
        "excluded" => report.excluded += 1,
        _ => report.problems += 1,
    }
    if report.paths.len() >= PATHS_SHOWN_MAX {
        report.more = true;
        return;
    }
    let (path, what, detail) = (path.to_owned(), what.to_owned(), detail.to_string());
    report.paths.push(FoundPath { path, what, detail });
}

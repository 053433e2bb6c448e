//! Opening a share's files, index, archive and watcher, in the tree that the index is about.

use std::io;
use std::path::Path;
use std::sync::Arc;

use chainsync_env::{Env, RenameMode, Vfs};

use crate::archive::Archive;
use crate::config::{Durability, NodeConfig, ShareConfig};
use crate::disk::{
    COOKIES, MARKER, OWN_DIR, OWN_FILE_MODE, STAGING, is_absent, own_path, read_all,
};
use crate::index::Index;
use crate::node::StartError;
use crate::share::{HintQueue, Opened};

/// Opens a share's files, index, archive and watcher.
pub fn open<E: Env>(
    env: &E,
    node: &NodeConfig,
    share: &ShareConfig,
) -> Result<Opened<E>, StartError> {
    let fail = |doing: &str, error: &dyn std::fmt::Display| StartError::Share {
        share: share.name.clone(),
        reason: format!("{doing}: {error}"),
    };
    let root = share.path.display();
    let vfs =
        env.open_root(&share.path).map_err(|error| fail(&format!("cannot open {root}"), &error))?;
    let state = node.state.join(share.name.as_str());
    let archive_path = state.join("archive");
    let in_state = |error: &io::Error| fail(&format!("cannot use {}", state.display()), error);
    env.create_state_dir(&archive_path).map_err(|error| in_state(&error))?;
    let archive = env.open_root(&archive_path).map_err(|error| in_state(&error))?;
    let index_path = state.join("index.redb");
    let storage = env.open_storage(&index_path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => fail(
            &format!("{} is in use", index_path.display()),
            &"another chainsync runs with this state directory: stop it first",
        ),
        _ => fail(&format!("cannot open {}", index_path.display()), &error),
    })?;
    let index = Index::open(storage, share.durability == Durability::Batch, &index_path)
        .map_err(|error| fail(&format!("{}", index_path.display()), &error))?;
    let device = prepare_root(env, &vfs, &index, &share.path).map_err(|error| match error {
        RootError::NotMarked => {
            StartError::Guard { share: share.name.clone(), reason: format!("{root}: {error}") }
        }
        error => fail(&format!("{root}"), &error),
    })?;
    let hints = Arc::new(HintQueue::default());
    let watch = env
        .watch(&share.path, hints.sink(env.clone()))
        .map_err(|error| fail(&format!("cannot watch {root}"), &error))?;
    Ok(Opened { vfs, device, archive: Archive::new(archive), index, watch, hints })
}

/// Why a root is refused.
#[derive(Debug, thiserror::Error)]
enum RootError {
    #[error(
        "the directory is not the one that was replicated: its marker {OWN_DIR}/marker is missing or another one. Is the file system mounted? If the directory was replaced on purpose, remove the index in the state directory to import it afresh"
    )]
    NotMarked,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("index")]
    Index(#[from] crate::index::IndexError),
}

/// Makes chainsync's corner of the tree, and makes sure that it is the tree the index is about: an
/// unmounted root must never look like a deletion of everything. Returns its device.
fn prepare_root<E: Env>(
    env: &E,
    vfs: &E::Vfs,
    index: &Index,
    path: &Path,
) -> Result<u64, RootError> {
    let root = vfs.open_dir(None)?;
    let device = vfs.stat_dir(&root)?.device;
    let state = index.state();
    let own = match vfs.open_dir(Some(&own_path(OWN_DIR))) {
        Ok(own) => own,
        Err(error) if is_absent(&error) && state.root_mark.is_none() => {
            vfs.make_dir(&root, OWN_DIR.as_bytes(), 0o700)?;
            vfs.open_dir(Some(&own_path(OWN_DIR)))?
        }
        Err(error) if is_absent(&error) => return Err(RootError::NotMarked),
        Err(error) => return Err(error.into()),
    };
    match (read_mark(vfs, &own)?, state.root_mark) {
        (Some(found), Some(expected)) if found == expected => {}
        (_, Some(_)) => return Err(RootError::NotMarked),
        (found, None) => {
            let mark = found.unwrap_or_else(|| env.random_u64());
            if found.is_none() {
                write_mark(vfs, &own, mark)?;
            }
            // Durable before the index asks for it, or a power loss between the two would leave a
            // tree that is refused.
            vfs.sync_dir(&own)?;
            vfs.sync_dir(&root)?;
            let mut writer = index.begin()?;
            writer.state.root_mark = Some(mark);
            writer.commit(env.random_u64(), true)?;
        }
    }
    for name in [STAGING, COOKIES] {
        match vfs.make_dir(&own, own_path(name).name(), 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    vfs.sync_dir(&own)?;
    vfs.sync_dir(&root)?;
    tracing::debug!(root = %path.display(), "root prepared");
    Ok(device)
}

pub fn read_mark<V: Vfs>(vfs: &V, own: &V::Dir) -> io::Result<Option<u64>> {
    let file = match vfs.open_file(own, MARKER) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = read_all(vfs, &file, MARK_BYTES)?;
    let mark =
        std::str::from_utf8(&text).ok().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    Ok(mark)
}

/// Sixteen hexadecimal digits.
const MARK_BYTES: u64 = 16;

fn write_mark<V: Vfs>(vfs: &V, own: &V::Dir, mark: u64) -> io::Result<()> {
    let incoming: &[u8] = b"marker.new";
    match vfs.unlink(own, incoming) {
        Err(error) if !is_absent(&error) => return Err(error),
        _ => {}
    }
    let file = vfs.create_file(own, incoming, OWN_FILE_MODE)?;
    vfs.write_at(&file, format!("{mark:016x}").as_bytes(), 0)?;
    vfs.sync_data(&file)?;
    vfs.rename(own, incoming, own, MARKER, RenameMode::Replace)?;
    vfs.sync_dir(own)
}

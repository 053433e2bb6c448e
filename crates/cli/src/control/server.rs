//! The daemon's end of the control socket.
//!
//! Invariants: the socket is never reachable with a mode wider than 0600; a socket on which somebody
//! answers is never taken away; what a client can make us hold is bounded (connections, line
//! length); a client that goes away takes its question with it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::{RelPath, ShareName};
use chainsync_engine::{CommandError, Handle, Which};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{ErrorCode, Request, Response};
use crate::names;

/// People, a monitor and a few scripts; each costs a task and a buffer.
const CONNECTIONS_MAX: usize = 32;
/// A request is about a hundred bytes.
const REQUEST_BYTES_MAX: u64 = 16 << 10;
/// A connection that asks nothing for so long frees its place.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that does not take its answer frees its place.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// `flush` holds a place for its whole timeout: an hour is more patience than any script has.
const FLUSH_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// `verify --deep` reads every content of every member: a day is more than any disk needs.
const VERIFY_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// The name under which the socket gets its mode before it appears under its own.
pub(super) const BINDING_SUFFIX: &str = ".new";

/// A bound control socket. Its file goes away with it.
pub(crate) struct Server {
    listener: UnixListener,
    file: SocketFile,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("another daemon answers at {0}")]
    Taken(PathBuf),
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    #[error("cannot create the control socket {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl Server {
    /// Needs a tokio runtime. Replaces a socket that a dead daemon left behind.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        make_way(path)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            std::fs::create_dir(parent).map_err(failed)?;
        }
        let mut binding = path.as_os_str().to_owned();
        binding.push(BINDING_SUFFIX);
        let binding = PathBuf::from(binding);
        // Left only by a daemon that died between these lines.
        remove_if_there(&binding).map_err(failed)?;
        let listener = UnixListener::bind(&binding).map_err(failed)?;
        std::fs::set_permissions(&binding, std::fs::Permissions::from_mode(0o600))
            .map_err(failed)?;
        let metadata = std::fs::symlink_metadata(&binding).map_err(failed)?;
        std::fs::rename(&binding, path).map_err(failed)?;
        let file = SocketFile { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) };
        Ok(Self { listener, file })
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self, handle: Handle) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: looking again at once would only burn CPU.
                    tracing::warn!(%error, "cannot accept on the control socket");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            };
            log_peer(&stream);
            match places.clone().try_acquire_owned() {
                Ok(place) => {
                    let handle = handle.clone();
                    tasks.spawn(async move {
                        if let Err(error) = serve(stream, handle).await {
                            tracing::debug!(%error, "control connection ended");
                        }
                        drop(place);
                    });
                }
                // Refused without a task; the answer fits into any socket buffer.
                Err(_) => {
                    let message = format!("{CONNECTIONS_MAX} others are asking already");
                    let answer = line(&refusal(ErrorCode::Busy, message));
                    let _ = stream.try_write(&answer);
                }
            }
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.file.path).finish()
    }
}

/// The name in the file system. Removed only while it is still ours: a successor may have taken it.
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(metadata) = std::fs::symlink_metadata(&self.path)
            && (metadata.dev(), metadata.ino()) == self.identity
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Errs unless the name is free or a socket on which nobody answers.
fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(BindError::Taken(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn log_peer(stream: &UnixStream) {
    match stream.peer_cred() {
        Ok(peer) => {
            let (uid, gid, pid) = (peer.uid(), peer.gid(), peer.pid());
            tracing::debug!(uid, gid, pid, "control connection");
        }
        Err(error) => tracing::debug!(%error, "control connection of unknown origin"),
    }
}

async fn serve(stream: UnixStream, handle: Handle) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut text = Vec::new();
        let mut bounded = (&mut read).take(REQUEST_BYTES_MAX);
        let length = timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut text)).await??;
        if length == 0 {
            return Ok(());
        }
        if !text.ends_with(b"\n") {
            let message =
                format!("a request has at most {REQUEST_BYTES_MAX} bytes and ends its line");
            return send(&mut write, &refusal(ErrorCode::TooLong, message)).await;
        }
        let request = match serde_json::from_slice(&text) {
            Ok(request) => request,
            Err(error) => {
                send(&mut write, &refusal(ErrorCode::BadRequest, error.to_string())).await?;
                continue;
            }
        };
        let response = tokio::select! {
            biased;
            response = answer(&handle, request) => response,
            () = gone(&mut read) => return Ok(()),
        };
        send(&mut write, &response).await?;
    }
}

/// Returns when the client hangs up. What it sends meanwhile stays for the next turn.
async fn gone(read: &mut BufReader<OwnedReadHalf>) {
    match read.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

async fn answer(handle: &Handle, request: Request) -> Response {
    match answered(handle, request).await {
        Ok(response) | Err(response) => response,
    }
}

/// Err: what was asked makes no sense here.
async fn answered(handle: &Handle, request: Request) -> Result<Response, Response> {
    Ok(match request {
        Request::Status { share } => {
            let share = named(share)?;
            found(handle.status(share.as_ref()).await, share)
        }
        Request::Flush { share, timeout_ms, live } => {
            let share = named(share)?;
            let patience = Duration::from_millis(timeout_ms).min(FLUSH_TIMEOUT_MAX);
            found(handle.flush(share.as_ref(), patience, live).await, share)
        }
        Request::Verify { share, deep, timeout_ms } => {
            let patience = Duration::from_millis(timeout_ms).min(VERIFY_TIMEOUT_MAX);
            told(handle.verify(named(share)?.as_ref(), deep, patience).await)
        }
        Request::Pause { share } => told(handle.pause(named(share)?.as_ref()).await),
        Request::Resume { share, accept_deletes } => {
            told(handle.resume(named(share)?.as_ref(), accept_deletes).await)
        }
        Request::Rescan { share, dry_run } => {
            told(handle.rescan(named(share)?.as_ref(), dry_run).await)
        }
        Request::Conflicts { share, id, path } => {
            told(handle.conflicts(named(share)?.as_ref(), which(id, path)?).await)
        }
        Request::Restore { share, id, path, to } => {
            let which = which(id, path)?.ok_or_else(|| {
                refusal(ErrorCode::BadRequest, "restore what? an id or a path".to_owned())
            })?;
            let to = to.map(|to| parsed(&to)).transpose()?;
            told(handle.restore(named(share)?.as_ref(), which, to).await)
        }
    })
}

fn named(share: Option<String>) -> Result<Option<ShareName>, Response> {
    let share = share.as_deref().map(ShareName::new).transpose();
    share.map_err(|error| refusal(ErrorCode::NoSuchShare, error.to_string()))
}

fn which(id: Option<u64>, path: Option<String>) -> Result<Option<Which>, Response> {
    match (id, path) {
        (Some(id), _) => Ok(Some(Which::Id(id))),
        (None, Some(path)) => Ok(Some(Which::Path(parsed(&path)?))),
        (None, None) => Ok(None),
    }
}

/// A path in the form in which it is shown.
fn parsed(shown: &str) -> Result<RelPath, Response> {
    let wrong = |reason: String| refusal(ErrorCode::BadRequest, format!("`{shown}`: {reason}"));
    let bytes = names::parse(shown)
        .ok_or_else(|| wrong("not a name as it is shown, with \\\\ and \\xNN".to_owned()))?;
    RelPath::new(bytes).map_err(|error| wrong(error.to_string()))
}

fn told<T: Serialize>(answer: Result<T, CommandError>) -> Response {
    match answer.map(serde_json::to_value) {
        Ok(Ok(value)) => Response::Ok(value),
        Ok(Err(error)) => refusal(ErrorCode::Failed, error.to_string()),
        Err(error) => {
            let code = match &error {
                CommandError::NoSuchShare => ErrorCode::NoSuchShare,
                CommandError::WhichShare => ErrorCode::BadRequest,
                CommandError::NoSuchConflict => ErrorCode::NoSuchConflict,
                CommandError::Share { .. } => ErrorCode::Failed,
            };
            refusal(code, error.to_string())
        }
    }
}

fn found<T: Serialize>(answer: Option<T>, share: Option<ShareName>) -> Response {
    match (answer.map(serde_json::to_value), share) {
        (Some(Ok(value)), _) => Response::Ok(value),
        (Some(Err(error)), _) => refusal(ErrorCode::Failed, error.to_string()),
        (None, Some(share)) => {
            refusal(ErrorCode::NoSuchShare, format!("this node has no share `{share}`"))
        }
        (None, None) => refusal(ErrorCode::Stopping, "the daemon is stopping".to_owned()),
    }
}

fn refusal(code: ErrorCode, message: String) -> Response {
    Response::Error { code, message }
}

async fn send(write: &mut OwnedWriteHalf, response: &Response) -> io::Result<()> {
    timeout(WRITE_TIMEOUT, write.write_all(&line(response))).await?
}

fn line(response: &Response) -> Vec<u8> {
    // Maps with string keys, numbers and strings: nothing that JSON could not say.
    let mut bytes = serde_json::to_vec(response).expect("a JSON value serialises");
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a closed listener leaves its file");
        let server = Server::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Server::bind(&path), Err(BindError::Taken(_))));
        drop(server);
        assert!(!path.exists(), "the file goes with its server");
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Server::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn the_file_of_a_successor_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let server = Server::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let successor = Server::bind(&path).unwrap();
        drop(server);
        assert!(path.exists());
        drop(successor);
    }

    #[test]
    fn the_bound_on_paths_fits_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let fill = super::super::SOCKET_PATH_BYTES_MAX - directory.path().as_os_str().len() - 1;
        let path = directory.path().join("s".repeat(fill));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        Server::bind(&path).unwrap();
    }
}

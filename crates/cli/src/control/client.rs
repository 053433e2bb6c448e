//! The asking end: connects, writes one line, reads one line. Blocking, with a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chainsync_engine::{FlushReport, Status};
use serde::de::DeserializeOwned;

use super::{ErrorCode, Request, Response};
use crate::failure::{Exit, Failure};

/// A daemon that does not answer a question that needs no waiting is as good as absent.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// More problems than fit would be cut by the engine; this only stops a stranger's endless line.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Asks the daemon at one socket. Holds no connection between questions.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("cannot reach a daemon at {socket}: {source}")]
    Unreachable { socket: PathBuf, source: std::io::Error },
    #[error("the daemon at {socket} answered with something else than expected: {reason}")]
    Garbled { socket: PathBuf, reason: String },
    #[error("{message}")]
    Refused { code: ErrorCode, message: String },
}

impl Client {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    pub(crate) fn status(&self, share: Option<&str>) -> Result<Status, ClientError> {
        self.ask(&Request::Status { share: share.map(str::to_owned) }, ANSWER_TIMEOUT)
    }

    pub(crate) fn flush(
        &self,
        share: Option<&str>,
        timeout: Duration,
        live: bool,
    ) -> Result<Vec<FlushReport>, ClientError> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Flush { share: share.map(str::to_owned), timeout_ms, live };
        self.ask(&request, timeout.saturating_add(ANSWER_TIMEOUT))
    }

    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<T, ClientError> {
        let line = self
            .exchange(request, patience)
            .map_err(|source| ClientError::Unreachable { socket: self.socket.clone(), source })?;
        let garbled = |error: serde_json::Error| ClientError::Garbled {
            socket: self.socket.clone(),
            reason: error.to_string(),
        };
        match serde_json::from_slice(&line).map_err(garbled)? {
            Response::Ok(value) => serde_json::from_value(value).map_err(garbled),
            Response::Error { code, message } => Err(ClientError::Refused { code, message }),
        }
    }

    fn exchange(&self, request: &Request, patience: Duration) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_read_timeout(Some(patience))?;
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut answer = Vec::new();
        BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_until(b'\n', &mut answer)?;
        if !answer.ends_with(b"\n") {
            return Err(std::io::Error::other("it closed the connection without an answer"));
        }
        Ok(answer)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let (exit, next) = match &error {
            ClientError::Unreachable { source, .. } => (
                Exit::Unreachable,
                match source.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        "run this as root or as the user that runs the daemon"
                    }
                    std::io::ErrorKind::WouldBlock => "it does not answer in time: look at its log",
                    _ => {
                        "start it with `chainsync run --config FILE` (or `systemctl start chainsync`), \
                     or name its socket with --socket or $CHAINSYNC_SOCKET"
                    }
                },
            ),
            ClientError::Garbled { .. } => {
                (Exit::Unreachable, "is it another program, or another version of chainsync?")
            }
            ClientError::Refused { code, .. } => match code {
                ErrorCode::NoSuchShare => {
                    (Exit::Usage, "`chainsync status` lists the shares of this node")
                }
                ErrorCode::NoSuchConflict => {
                    (Exit::No, "`chainsync conflicts list` shows them all")
                }
                ErrorCode::Failed => (Exit::No, "look at the daemon's log"),
                ErrorCode::BadRequest | ErrorCode::TooLong => (
                    Exit::Usage,
                    "`chainsync COMMAND --help` explains it; use the same version for both",
                ),
                ErrorCode::Busy | ErrorCode::Stopping => {
                    (Exit::Unreachable, "ask again in a moment")
                }
            },
        };
        Failure::new(exit, error, next)
    }
}

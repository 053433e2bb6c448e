//! What goes over the control socket. A contract: fields are added, never renamed.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line from the asking end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Answered by [`chainsync_engine::Status`].
    Status {
        #[serde(default)]
        share: Option<String>,
    },
    /// Answered by a list of [`chainsync_engine::FlushReport`], one a share.
    Flush {
        #[serde(default)]
        share: Option<String>,
        #[serde(default = "timeout_ms_default")]
        timeout_ms: u64,
        #[serde(default)]
        live: bool,
    },
    /// Answered by a list of [`chainsync_engine::answers::VerifyReport`].
    Verify {
        #[serde(default)]
        share: Option<String>,
        #[serde(default)]
        deep: bool,
        #[serde(default = "verify_ms_default")]
        timeout_ms: u64,
    },
    /// Answered by a list of [`chainsync_engine::answers::MoveReport`].
    Pause {
        #[serde(default)]
        share: Option<String>,
    },
    /// Answered by a list of [`chainsync_engine::answers::MoveReport`].
    Resume {
        #[serde(default)]
        share: Option<String>,
        #[serde(default)]
        accept_deletes: bool,
    },
    /// Answered by a list of [`chainsync_engine::answers::RescanReport`].
    Rescan {
        #[serde(default)]
        share: Option<String>,
        #[serde(default)]
        dry_run: bool,
    },
    /// Answered by a list of [`chainsync_engine::answers::ConflictList`]: all, those of a path (in the
    /// form in which it is shown), or one.
    Conflicts {
        #[serde(default)]
        share: Option<String>,
        #[serde(default)]
        id: Option<u64>,
        #[serde(default)]
        path: Option<String>,
    },
    /// Answered by a [`chainsync_engine::answers::RestoreReport`].
    Restore {
        #[serde(default)]
        share: Option<String>,
        #[serde(default)]
        id: Option<u64>,
        #[serde(default)]
        path: Option<String>,
        #[serde(default)]
        to: Option<String>,
    },
}

/// One line from the daemon: `{"ok": …}` or `{"error": {"code": …, "message": …}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Response {
    Ok(Value),
    Error { code: ErrorCode, message: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ErrorCode {
    /// The line is not a request.
    BadRequest,
    /// The line has no end.
    TooLong,
    NoSuchShare,
    NoSuchConflict,
    /// Disk or index did not do what was needed.
    Failed,
    /// Too many are asking.
    Busy,
    /// The daemon is going down.
    Stopping,
}

fn timeout_ms_default() -> u64 {
    30_000
}

fn verify_ms_default() -> u64 {
    60_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_a_contract() {
        let line = |request: &Request| serde_json::to_string(request).unwrap();
        assert_eq!(line(&Request::Status { share: None }), r#"{"command":"status","share":null}"#);
        let flush = Request::Flush { share: None, timeout_ms: 30_000, live: false };
        let text = r#"{"command":"flush","share":null,"timeout_ms":30000,"live":false}"#;
        assert_eq!(line(&flush), text);
        assert_eq!(serde_json::from_str::<Request>(r#"{"command":"flush"}"#).unwrap(), flush);
        for wrong in [r#"{"command":"halt"}"#, r#"{"command":"status","shrae":"x"}"#, "1", ""] {
            assert!(serde_json::from_str::<Request>(wrong).is_err(), "{wrong}");
        }
        let error = Response::Error { code: ErrorCode::NoSuchShare, message: "no".to_owned() };
        let text = r#"{"error":{"code":"no-such-share","message":"no"}}"#;
        assert_eq!(serde_json::to_string(&error).unwrap(), text);
        let good = serde_json::to_string(&Response::Ok(Value::from(1))).unwrap();
        assert_eq!(good, r#"{"ok":1}"#);
    }
}

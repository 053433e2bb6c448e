//! A running node.

use std::time::Duration;

use chainsync_core::ShareName;
use chainsync_env::Env;

use crate::config::NodeConfig;
use crate::status::{FlushReport, Status};

/// A started node: its shares are open, its listener is bound.
pub struct Node<E: Env> {
    env: E,
    handle: Handle,
}

/// Asks a running node, and stops it. Cheap to clone; works after the node has ended, with empty
/// answers.
#[derive(Clone)]
pub struct Handle {}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("share `{share}`: {reason}")]
    Share { share: ShareName, reason: String },
    #[error("cannot listen on {address}")]
    Listen { address: String, source: std::io::Error },
}

impl<E: Env> Node<E> {
    /// Opens the shares and the listener. Nothing moves before [`run`](Node::run).
    pub async fn start(env: E, config: NodeConfig) -> Result<Self, StartError> {
        let _ = config;
        Ok(Self { env, handle: Handle {} })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until [`Handle::stop`], then drains and closes. A task that panics ends the node with
    /// that panic.
    pub async fn run(self) {
        let _ = self.env;
    }
}

impl Handle {
    /// All shares, or the one that is named; `None` if there is no such share.
    pub async fn status(&self, share: Option<&ShareName>) -> Option<Status> {
        let _ = share;
        None
    }

    /// Waits until every member has durably applied what was changed here before the call, or until
    /// the timeout. One report a share.
    pub async fn flush(
        &self,
        share: Option<&ShareName>,
        timeout: Duration,
        live: bool,
    ) -> Option<Vec<FlushReport>> {
        let _ = (share, timeout, live);
        None
    }

    /// Begins an orderly stop: [`Node::run`] returns soon.
    pub fn stop(&self) {}
}

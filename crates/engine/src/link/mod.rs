//! Links: authenticated connections on which the journal of one node goes to its successor.
//!
//! `send` is the upstream's side, `receive` the downstream's, and what it receives `applier` applies;
//! `manage` decides to whom this node's one link leads; `pass` reads the journal; `give` answers who
//! fetches a large content.

pub mod applier;
pub mod connection;
pub mod give;
pub mod holdings;
pub mod manage;
pub mod pace;
pub mod pass;
pub mod progress;
pub mod receive;
pub mod send;
mod throttle;

use std::io;

use chainsync_core::wire::WireError;

use crate::share::ShareError;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("it was closed by the peer")]
    Closed,
    #[error("nothing was heard for {0:?}")]
    Silent(std::time::Duration),
    #[error("the peer broke the protocol: {0}")]
    Wire(#[from] WireError),
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("ended here: {0}")]
    Parted(String),
    #[error("the peer ended it: {0}")]
    Goodbye(String),
    #[error(transparent)]
    Share(#[from] ShareError),
}

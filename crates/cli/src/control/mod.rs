//! The control socket: how `status`, `flush` and `demo` ask a running daemon.
//!
//! A Unix stream socket, mode 0600, one JSON object per line in each direction; `socat` is enough to
//! talk to it. The protocol is [`protocol`], the daemon's end [`server`], the asking end [`client`].

mod client;
mod protocol;
mod server;

pub(crate) use client::{ANSWER_TIMEOUT, Client, ClientError};
pub(crate) use protocol::{ErrorCode, Request, Response};
pub(crate) use server::{BindError, Server};

/// What `sun_path` holds (108 bytes with its NUL), less the suffix under which the server binds.
pub(crate) const SOCKET_PATH_BYTES_MAX: usize = 107 - server::BINDING_SUFFIX.len();

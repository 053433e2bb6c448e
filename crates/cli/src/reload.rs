//! SIGHUP: the configuration is read again, judged, and handed to the running node.
//!
//! A file that is wrong changes nothing: its errors are logged, `status` shows that it was refused,
//! and the configuration before it stays in force. So does one that changes what only a restart can
//! change.

use std::path::PathBuf;

use chainsync_engine::{Handle, Reloaded};
use chainsync_host::PrivateKey;
use chainsync_host::tls::TlsConfig;

use crate::config::{self, Config, Open};
use crate::system;

/// What a reload needs of the daemon that was started. What is only here takes a restart to change.
#[derive(Clone)]
pub(crate) struct Reloader {
    pub(crate) file: PathBuf,
    pub(crate) handle: Handle,
    pub(crate) tls: TlsConfig,
    pub(crate) key: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Reloader {
    /// Reloads once. Everything there is to say about it is logged.
    pub(crate) async fn reload(self) {
        let file = self.file.display().to_string();
        tracing::info!(file, "reloading the configuration");
        match self.try_reload().await {
            Ok(Reloaded { added, removed, kept, halted }) => tracing::info!(
                file,
                added = added.len(),
                removed = removed.len(),
                kept = kept.len(),
                halted = halted.len(),
                "the new configuration is in force"
            ),
            Err(Refused { short, full }) => {
                tracing::error!(
                    "the new configuration is refused, the old one stays in force: {full}"
                );
                self.handle.note_refused_reload(short);
            }
        }
    }

    async fn try_reload(&self) -> Result<Reloaded, Refused> {
        let reader = self.clone();
        let read = tokio::task::spawn_blocking(move || reader.read()).await;
        // Reading panics only if the process is ending anyway.
        let config = read.map_err(|error| Refused::of(error.to_string()))??;
        let mine = config.node.node.clone();
        let peers: Vec<_> = config.node.nodes.values().filter(|peer| peer.name != mine).collect();
        let allowed: Vec<_> = peers.iter().map(|peer| peer.id).collect();
        let reloaded = self.handle.reload(config.node).await;
        let reloaded = reloaded.map_err(|error| Refused::of(chain(&error)))?;
        self.tls.set_allowed(allowed);
        Ok(reloaded)
    }

    fn read(&self) -> Result<Config, Refused> {
        let (config, warnings) = config::load(&self.file, Open::All)
            .map_err(|failure| Refused { short: failure.summary(), full: failure.text() })?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let key = PrivateKey::load(&config.key, config.key_access);
        let same_key = key.is_ok_and(|key| key.public_id() == self.tls.id());
        let mut fixed = Vec::new();
        if config.key != self.key || !same_key {
            fixed.push("`key`");
        }
        if config.socket != self.socket {
            fixed.push("`socket`");
        }
        if !fixed.is_empty() {
            return Err(Refused::of(format!(
                "{} cannot change while the daemon runs: restart it, or change it back",
                fixed.join(", ")
            )));
        }
        system::refuse_owner(&config).map_err(|failure| Refused::of(failure.text()))?;
        Ok(config)
    }
}

/// Why the old configuration stays.
struct Refused {
    /// For `status`: a line or two.
    short: String,
    /// For the log: with the lines of the file.
    full: String,
}

impl Refused {
    fn of(text: String) -> Self {
        Self { short: text.clone(), full: text }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

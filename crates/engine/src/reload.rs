//! A new configuration for a running node.
//!
//! Everything that can be refused is refused before anything changes: what takes a restart, patterns
//! that do not compile, shares that do not open. Then shares that are gone are closed, those that
//! stay get their new settings, and new ones start. A link whose node is configured as before is not
//! touched, and a share that is halted at start is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chainsync_core::ShareName;
use chainsync_env::Env;
use tokio::time::timeout;

use crate::config::{NodeConfig, ShareConfig};
use crate::link::receive::Chain;
use crate::node::{Shared, StartError, Tasks};
use crate::settings::Settings;
use crate::share::{Share, lock};

/// How long a share that is closed may take until nothing uses it: what is being read or written is
/// finished, a `flush` may still be answered.
const RELEASE_MAX: Duration = Duration::from_secs(10);

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    pub added: Vec<ShareName>,
    pub removed: Vec<ShareName>,
    /// Kept, with the settings of the new configuration.
    pub kept: Vec<ShareName>,
    /// Not started, and why. The rest goes on.
    pub halted: Vec<ShareName>,
}

/// Why a configuration was refused. The one before goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("{} cannot change while the daemon runs: restart it, or change it back", .0.join(", "))]
    Restart(Vec<String>),
    #[error("share `{share}`: exclude: {source}")]
    Exclude { share: ShareName, source: ignore::Error },
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the node is stopping")]
    Stopping,
}

/// Checks what takes a restart.
pub fn refuse_fixed(old: &NodeConfig, new: &NodeConfig) -> Result<(), ReloadError> {
    let mut fixed = Vec::new();
    let mut note = |changed: bool, what: String| fixed.extend(changed.then_some(what));
    note(old.node != new.node, "`node`".to_owned());
    note(old.state != new.state, "`state`".to_owned());
    note(old.listen != new.listen, "`listen`".to_owned());
    for (before, share) in both(old, new) {
        let of = |key: &str| format!("`shares.{}.{key}`", share.name);
        note(before.path != share.path, of("path"));
        note(before.durability != share.durability, of("durability"));
        note(before.owner != share.owner, of("owner"));
    }
    if fixed.is_empty() { Ok(()) } else { Err(ReloadError::Restart(fixed)) }
}

fn both<'c>(
    old: &'c NodeConfig,
    new: &'c NodeConfig,
) -> impl Iterator<Item = (&'c ShareConfig, &'c ShareConfig)> {
    new.shares.iter().filter_map(|share| {
        let before = old.shares.iter().find(|before| before.name == share.name)?;
        Some((before, share))
    })
}

impl<E: Env> Shared<E> {
    /// Takes over a configuration; `tasks` are those of the running node.
    pub(crate) async fn reload(
        self: &Arc<Self>,
        config: NodeConfig,
        tasks: &mut Tasks,
    ) -> Result<Reloaded, ReloadError> {
        refuse_fixed(&self.config(), &config)?;
        let mut settings = BTreeMap::new();
        for share in &config.shares {
            let made = Settings::new(&config, share)
                .map_err(|source| ReloadError::Exclude { share: share.name.clone(), source })?;
            settings.insert(share.name.clone(), made);
        }
        let running = self.shares();
        let runs = |name: &ShareName| running.iter().any(|share| share.config.name == *name);
        let mut opened = Vec::new();
        let mut halted = Vec::new();
        for share in config.shares.iter().filter(|share| !runs(&share.name)) {
            match self.open(&config, share).await {
                Ok(share) => opened.push(share),
                Err(StartError::Guard { share, reason }) => halted.push((share, reason)),
                Err(error) => return Err(error.into()),
            }
        }
        // From here on nothing is refused.
        let mut outcome = Reloaded::default();
        outcome.halted.extend(halted.iter().map(|(name, _)| name.clone()));
        *lock(&self.config) = Arc::new(config);
        for share in running {
            let name = share.config.name.clone();
            match settings.remove(&name) {
                Some(settings) => {
                    self.renew(&share, settings).await;
                    outcome.kept.push(name);
                }
                None => {
                    self.close(share, tasks).await;
                    outcome.removed.push(name);
                }
            }
        }
        for share in opened {
            outcome.added.push(share.share.config.name.clone());
            self.begin(share, tasks);
        }
        self.set_halted(halted);
        Ok(outcome)
    }

    /// New settings for a share that stays.
    async fn renew(&self, share: &Arc<Share<E>>, settings: Settings) {
        let before = share.settings();
        let patterns = settings.exclude.patterns() != before.exclude.patterns();
        let policy = settings.policy != before.policy;
        if !patterns && !policy {
            share.set_settings(settings);
            return;
        }
        // Nobody may look at what is no longer excluded, or heed a conflict of before, until the index
        // is in line with that.
        let _gate = share.gate.lock().await;
        share.set_settings(settings);
        let worker = share.clone();
        let job = move || {
            if patterns {
                worker.retrack()?;
            }
            worker.begin_policy()
        };
        if let Err(error) = self.env.blocking(job).await {
            tracing::error!(share = %share.config.name, error = %Chain(&error), "the index is in trouble");
        }
        if patterns {
            share.hints.add_everything();
        }
    }

    /// Ends a share that was taken out. Its files, index and archive stay.
    async fn close(&self, share: Arc<Share<E>>, tasks: &mut Tasks) {
        let name = share.config.name.clone();
        lock(&self.shares).retain(|(other, _)| other.config.name != name);
        // Its connections end and say why.
        share.set_settings(Settings { closed: true, ..(*share.settings()).clone() });
        let released = {
            // Whoever holds the gate finishes what it is doing.
            let _gate = share.gate.lock().await;
            let worker = share.clone();
            if let Err(error) = self.env.blocking(move || worker.note_watching()).await {
                tracing::error!(share = %name, error = %Chain(&error), "the index is in trouble");
            }
            tasks.abort(&name)
        };
        drop(share);
        if let Some(released) = released
            && timeout(RELEASE_MAX, released).await.is_err()
        {
            tracing::warn!(share = %name, "still in use by a command; its index is released later");
        }
        tracing::info!(share = %name, "share closed: taken out of the configuration");
    }
}

//! What the values of a configuration mean together.
//!
//! Looks at no file, except that with [`Open::All`] paths are resolved before they are compared, so
//! that a symlink does not hide a share inside a share.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use chainsync_core::{NodeId, NodeName, Policy, Ring, ShareName};
use chainsync_engine::{Durability, Limits, NodeConfig, ShareConfig};
use chainsync_env::Peer;
use chainsync_host::KeyAccess;
use ignore::gitignore::GitignoreBuilder;
use toml::Spanned;

use super::diagnostic::{Diagnostic, Level};
use super::read::{Raw, RawNode, RawShare};
use super::similar::similar;
use super::{Config, Open, place};
use crate::control::SOCKET_PATH_BYTES_MAX;

/// Where the control socket is unless the file says otherwise; `status` looks there too.
const SOCKET_DEFAULT: &str = "/run/chainsync/control.sock";
/// systemd's way to hand over secrets: a file below `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "credential:";

/// The configuration, if nothing is wrong with it.
pub(super) fn validate(
    raw: &Raw,
    open: Open,
    credentials: Option<&Path>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Config> {
    let mut check = Validation { raw, open, diagnostics };
    let nodes = check.nodes();
    let bandwidth_max = check.bandwidths();
    let node = check.this_node();
    let state = check.path(&raw.state);
    let key = check.key(credentials);
    let socket = check.socket();
    let listen = check.address(&raw.listen);
    let (heartbeat, dead_after) = check.rhythm();
    let shares = check.shares();
    check.apart(&state, &key, &socket);
    if let Some(http) = check.address(&raw.http) {
        // Accepted, so that a configuration for the next version can be written today.
        check.diagnostics.push(Diagnostic::warning(
            raw.http.as_ref().map_or(0..0, Spanned::span),
            format!("nothing will listen on {http}: the status page comes in a later version"),
            "ignored",
            "leave it as it is, or take it out; `chainsync status` shows the same",
        ));
    }
    // Read problems count too: a value of a wrong type is `None` here, as if it were missing.
    if diagnostics.iter().any(|found| found.level == Level::Error) {
        return None;
    }
    let node = NodeConfig {
        node: node?,
        listen: listen?,
        state: state?,
        nodes,
        bandwidth_max,
        shares,
        heartbeat,
        dead_after,
    };
    let key_access = key_access(raw.key.as_ref()?.get_ref());
    Some(Config { node, key: key?, key_access, socket: socket? })
}

/// The file that a `key` means.
pub(super) fn key_path(key: &str, credentials: Option<&Path>) -> Result<PathBuf, KeyPathError> {
    match key.strip_prefix(CREDENTIAL) {
        None => place::absolute(key).map_err(|_| KeyPathError::Path),
        Some(name) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err(KeyPathError::CredentialName)
        }
        Some(name) => credentials.map(|base| base.join(name)).ok_or(KeyPathError::NoCredentials),
    }
}

pub(super) enum KeyPathError {
    Path,
    CredentialName,
    NoCredentials,
}

/// Who else may read the key file: of credentials, systemd closes the directory.
pub(super) fn key_access(key: &str) -> KeyAccess {
    match key.starts_with(CREDENTIAL) {
        true => KeyAccess::GroupMayRead,
        false => KeyAccess::OwnerOnly,
    }
}

/// What the top level says for all shares.
struct Defaults {
    durability: Option<Durability>,
    owner: Option<bool>,
    limits: Limits,
}

fn excludes_nothing(pattern: &str) -> bool {
    pattern.starts_with('#') || pattern.trim().is_empty()
}

pub(super) struct Validation<'r, 'd> {
    pub(super) raw: &'r Raw,
    open: Open,
    diagnostics: &'d mut Vec<Diagnostic>,
}

impl Validation<'_, '_> {
    pub(super) fn error(
        &mut self,
        span: Range<usize>,
        title: impl Into<String>,
        label: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic::error(span, title, label, next));
    }

    fn nodes(&mut self) -> BTreeMap<NodeName, Peer> {
        let mut peers = BTreeMap::new();
        let mut ids: BTreeMap<NodeId, &RawNode> = BTreeMap::new();
        for node in &self.raw.nodes {
            let name = self.node_name(&node.name);
            let address = self.address(&node.address);
            let id = node.id.as_ref().and_then(|id| self.id(id));
            if let (Some(id), Some(text)) = (id, &node.id)
                && let Some(other) = ids.insert(id, node)
            {
                let (one, two) = (other.name.get_ref(), node.name.get_ref());
                let title = format!("`{one}` and `{two}` have the same id");
                let next = "each node has a key of its own: run `chainsync keygen` on each";
                let found = Diagnostic::error(text.span(), title, "the same again", next);
                let first = other.id.as_ref().map_or(0..0, Spanned::span);
                self.diagnostics.push(found.also(first, "first used here"));
            }
            if let (Some(name), Some(address), Some(id)) = (name, address, id) {
                peers.insert(name.clone(), Peer { name, address, id });
            }
        }
        peers
    }

    fn node_name(&mut self, name: &Spanned<String>) -> Option<NodeName> {
        let next = "rename it, as in `[nodes.apollo]`";
        let parsed = NodeName::new(name.get_ref());
        parsed
            .map_err(|error| self.error(name.span(), error.to_string(), "no name of a node", next))
            .ok()
    }

    fn id(&mut self, id: &Spanned<String>) -> Option<NodeId> {
        let next = "paste the line that `chainsync keygen` printed on that node";
        let parsed = NodeId::parse(id.get_ref());
        parsed.map_err(|error| self.error(id.span(), error.to_string(), "no node id", next)).ok()
    }

    fn this_node(&mut self) -> Option<NodeName> {
        let node = self.raw.node.as_ref()?;
        self.known_node(node, "the name of this node")?;
        NodeName::new(node.get_ref()).ok()
    }

    /// Whether `[nodes]` describes it; an error if not.
    fn known_node(&mut self, name: &Spanned<String>, what: &str) -> Option<()> {
        let known = || self.raw.nodes.iter().map(|node| node.name.get_ref().as_str());
        if known().any(|node| node == name.get_ref()) {
            return Some(());
        }
        let next = match similar(name.get_ref(), known()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("add `[nodes.{}]` with its address and id", name.get_ref()),
        };
        let title = format!("there is no node `{}`", name.get_ref());
        self.error(name.span(), title, format!("{what}, but no `[nodes.…]` has it"), next);
        None
    }

    fn address(&mut self, address: &Option<Spanned<String>>) -> Option<String> {
        let address = address.as_ref()?;
        if let Err(reason) = place::address(address.get_ref()) {
            let title = format!("`{}` is not an address", address.get_ref());
            let next = "write `host:port`, such as `10.0.0.1:7420` or `[2001:db8::1]:7420`";
            self.error(address.span(), title, reason, next);
            return None;
        }
        Some(address.get_ref().clone())
    }

    fn path(&mut self, path: &Option<Spanned<String>>) -> Option<PathBuf> {
        let path = path.as_ref()?;
        match place::absolute(path.get_ref()) {
            Ok(path) => Some(path),
            Err(reason) => {
                let title = format!("`{}` cannot be used as a path", path.get_ref());
                self.error(path.span(), title, reason, "write the full path, beginning with `/`");
                None
            }
        }
    }

    fn key(&mut self, credentials: Option<&Path>) -> Option<PathBuf> {
        let key = self.raw.key.as_ref()?;
        match key_path(key.get_ref(), credentials) {
            Ok(path) => Some(path),
            Err(KeyPathError::Path) => self.path(&self.raw.key),
            Err(KeyPathError::CredentialName) => {
                let title = format!("`{}` names no credential", key.get_ref());
                let next = "write `credential:NAME` with the NAME of LoadCredential=";
                self.error(key.span(), title, "expected a plain file name", next);
                None
            }
            // On a build machine there are none, and nobody asked to open them.
            Err(KeyPathError::NoCredentials) if self.open == Open::Nothing => {
                Some(PathBuf::from(key.get_ref()))
            }
            Err(KeyPathError::NoCredentials) => {
                let next = "start it as a systemd unit with LoadCredential=, or check it with \
                            --without-key";
                let title = "the key is a credential, and $CREDENTIALS_DIRECTORY is not set";
                self.error(key.span(), title, "no credentials here", next);
                None
            }
        }
    }

    fn socket(&mut self) -> Option<PathBuf> {
        if self.raw.socket.is_none() {
            return Some(PathBuf::from(SOCKET_DEFAULT));
        }
        let path = self.path(&self.raw.socket)?;
        let length = path.as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            let span = self.raw.socket.as_ref().map_or(0..0, Spanned::span);
            let title = format!("the path of the control socket has {length} bytes");
            let label = format!("at most {SOCKET_PATH_BYTES_MAX} fit");
            self.error(span, title, label, format!("choose a short one, such as {SOCKET_DEFAULT}"));
            return None;
        }
        Some(path)
    }

    fn shares(&mut self) -> Vec<ShareConfig> {
        let durability = self.durability(&self.raw.durability);
        let owner = self.raw.owner;
        let raw = self.raw;
        let default =
            Defaults { durability, owner, limits: self.limits(&raw.limits, &Limits::default()) };
        raw.shares.iter().filter_map(|share| self.share(share, &default)).collect()
    }

    fn share(&mut self, share: &RawShare, default: &Defaults) -> Option<ShareConfig> {
        let name = ShareName::new(share.name.get_ref()).map_err(|error| {
            let next = "rename it, as in `[shares.images]`";
            self.error(share.name.span(), error.to_string(), "no name of a share", next);
        });
        let path = self.path(&share.path);
        let ring = share.ring.as_ref().and_then(|ring| self.ring(share, ring));
        self.patterns(&share.exclude);
        let durability = self.durability(&share.durability).or(default.durability);
        let limits = self.limits(&share.limits, &default.limits);
        Some(ShareConfig {
            name: name.ok()?,
            path: path?,
            ring: ring?,
            exclude: share.exclude.iter().map(|pattern| pattern.get_ref().clone()).collect(),
            durability: durability.unwrap_or_default(),
            owner: share.owner.or(default.owner).unwrap_or(false),
            sweep_interval: self.sweep_interval(share),
            policy: self.policy(share),
            prefer: self.prefer(share),
            limits,
            tombstone_age: self.tombstone_age(share),
        })
    }

    fn ring(&mut self, share: &RawShare, ring: &Spanned<Vec<Spanned<String>>>) -> Option<Ring> {
        let names = ring.get_ref();
        let known = names.iter().filter(|name| self.known_node(name, "in this ring").is_some());
        let names_known = known.count();
        let parsed: Vec<_> =
            names.iter().filter_map(|name| NodeName::new(name.get_ref()).ok()).collect();
        if names_known < names.len() || parsed.len() < names.len() {
            return None;
        }
        let ring_of_nodes = Ring::new(parsed)
            .map_err(|error| {
                let next = "list each node once, in the order in which changes travel";
                let title = format!("{error}, in share `{}`", share.name.get_ref());
                self.error(ring.span(), title, "not a ring", next);
            })
            .ok()?;
        let this = self.raw.node.as_ref()?;
        let described = self.raw.nodes.iter().any(|node| node.name.get_ref() == this.get_ref());
        // A node that nobody describes is in no ring either; that has been said.
        if described && names.iter().all(|name| name.get_ref() != this.get_ref()) {
            let (node, share) = (this.get_ref(), share.name.get_ref());
            let title = format!("`{node}` is not in the ring of its own share `{share}`");
            let next = format!("add \"{node}\" to the ring, or leave `[shares.{share}]` out here");
            let found = Diagnostic::error(ring.span(), title, "this node is missing", next);
            self.diagnostics.push(found.also(this.span(), "this node"));
            return None;
        }
        if names.len() == 1 {
            self.diagnostics.push(Diagnostic::warning(
                ring.span(),
                format!("share `{}` has a ring of one", share.name.get_ref()),
                "nothing is replicated",
                "fine while a ring grows or shrinks; otherwise add the other nodes",
            ));
        }
        Some(ring_of_nodes)
    }

    fn patterns(&mut self, patterns: &[Spanned<String>]) {
        for pattern in patterns {
            let reason = match GitignoreBuilder::new("/").add_line(None, pattern.get_ref()) {
                Err(error) => error.to_string(),
                Ok(_) if excludes_nothing(pattern.get_ref()) => {
                    self.diagnostics.push(Diagnostic::warning(
                        pattern.span(),
                        format!("`{}` excludes nothing", pattern.get_ref().escape_debug()),
                        "a comment or an empty line to gitignore",
                        r"take it out; to exclude a name that begins with `#`, write `\\#name`",
                    ));
                    continue;
                }
                // A line of a gitignore file cannot contain this; the builder does not look.
                Ok(_) if pattern.get_ref().contains('\n') => "more than one line".to_owned(),
                Ok(_) => continue,
            };
            let title = format!("`{}` is not an exclude pattern", pattern.get_ref().escape_debug());
            let next = "patterns are those of gitignore: `*.log`, `/cache/**`, `!keep.log`";
            self.error(pattern.span(), title, reason, next);
        }
    }

    fn durability(&mut self, text: &Option<Spanned<String>>) -> Option<Durability> {
        let text = text.as_ref()?;
        match text.get_ref().as_str() {
            "batch" => Some(Durability::Batch),
            "none" => Some(Durability::None),
            other => {
                let title = format!("`{other}` is no durability");
                let next = "\"batch\" survives power loss, \"none\" a crash of the daemon only";
                self.error(text.span(), title, "expected \"batch\" or \"none\"", next);
                None
            }
        }
    }

    /// A share's own, or the one for all shares.
    fn policy(&mut self, share: &RawShare) -> Policy {
        let Some(text) = share.policy.as_ref().or(self.raw.policy.as_ref()) else {
            return Policy::default();
        };
        match text.get_ref().as_str() {
            "younger" => Policy::Younger,
            "keep-both" => Policy::KeepBoth,
            "edit-beats-delete" => Policy::EditBeatsDelete,
            other => {
                let title = format!("`{}` is no policy for conflicts", other.escape_debug());
                let label = "expected \"younger\", \"keep-both\" or \"edit-beats-delete\"";
                let next = "\"younger\" keeps the older edit in the archive, \"keep-both\" also beside the younger one";
                self.error(text.span(), title, label, next);
                Policy::default()
            }
        }
    }

    fn prefer(&mut self, share: &RawShare) -> Option<NodeName> {
        let node = share.prefer.as_ref()?;
        let ring = share.ring.as_ref()?.get_ref();
        if ring.iter().any(|name| name.get_ref() == node.get_ref()) {
            return NodeName::new(node.get_ref()).ok();
        }
        let (name, share) = (node.get_ref().escape_debug(), share.name.get_ref());
        let title = format!("`{name}` is not in the ring of share `{share}`");
        let next = "name the member whose files are known to be right, or leave `prefer` out";
        self.error(node.span(), title, "preferred by nobody", next);
        None
    }

    /// No share in a share, and nothing of ours in a share.
    fn apart(&mut self, state: &Option<PathBuf>, key: &Option<PathBuf>, socket: &Option<PathBuf>) {
        let raw = self.raw;
        let place = |path: &Spanned<String>| place::absolute(path.get_ref()).ok();
        let shares: Vec<_> = raw
            .shares
            .iter()
            .filter_map(|share| Some((share, share.path.as_ref()?, place(share.path.as_ref()?)?)))
            .map(|(share, text, path)| (share.name.get_ref(), text, self.resolved(path)))
            .collect();
        for (at, (name, text, path)) in shares.iter().enumerate() {
            for (other, other_text, other_path) in &shares[..at] {
                let inward =
                    place::inside(path, other_path).map(|how| (name, text, how, other, other_text));
                let outward = || {
                    place::inside(other_path, path).map(|how| (other, other_text, how, name, text))
                };
                if let Some((inner, inner_text, how, outer, outer_text)) = inward.or_else(outward) {
                    let title = format!("share `{inner}` {how} share `{outer}`");
                    let next = "give each share a directory of its own, or use one share for both";
                    let found = Diagnostic::error(inner_text.span(), title, "the inner one", next);
                    self.diagnostics.push(found.also(outer_text.span(), "the outer one"));
                }
            }
        }
        let ours =
            [("state", &raw.state, state), ("key", &raw.key, key), ("socket", &raw.socket, socket)];
        for (what, ours_text, ours_path) in ours {
            let (Some(ours_text), Some(ours_path)) = (ours_text, ours_path) else { continue };
            let ours_path = self.resolved(ours_path.clone());
            for (name, text, path) in &shares {
                let next = "keep the daemon's own files, such as /var/lib/chainsync, outside of all shares";
                if let Some(how) = place::inside(&ours_path, path) {
                    let title = format!("`{what}` {how} share `{name}`");
                    let label = "would be replicated to every node";
                    let found = Diagnostic::error(ours_text.span(), title, label, next);
                    self.diagnostics.push(found.also(text.span(), "the share"));
                } else if what == "state" && place::inside(path, &ours_path).is_some() {
                    let title = format!("share `{name}` lies inside `state`");
                    let found = Diagnostic::error(text.span(), title, "the share", next);
                    self.diagnostics
                        .push(found.also(ours_text.span(), "the daemon's own directory"));
                }
            }
        }
    }

    /// Without symlinks, as far as the path exists.
    fn resolved(&self, path: PathBuf) -> PathBuf {
        if self.open == Open::Nothing {
            return path;
        }
        let existing = path.ancestors().find_map(|ancestor| {
            let real = ancestor.canonicalize().ok()?;
            Some(real.join(path.strip_prefix(ancestor).ok()?))
        });
        existing.unwrap_or(path)
    }
}

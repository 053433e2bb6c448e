//! What the configuration points to: the key must be readable by us alone and be this node's, the
//! shares must be directories. Changes nothing.

use std::io::ErrorKind;
use std::path::Path;

use chainsync_core::NodeId;
use chainsync_host::{KeyError, PrivateKey};
use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::place;
use super::read::Raw;
use super::validate::{key_access, key_path};

pub(super) fn look(raw: &Raw, credentials: Option<&Path>, diagnostics: &mut Vec<Diagnostic>) {
    diagnostics.extend(raw.key.as_ref().and_then(|key| look_at_key(raw, key, credentials)));
    for share in &raw.shares {
        diagnostics.extend(share.path.as_ref().and_then(look_at_share));
    }
}

fn look_at_key(
    raw: &Raw,
    text: &Spanned<String>,
    credentials: Option<&Path>,
) -> Option<Diagnostic> {
    // What is wrong with the path itself has been said.
    let path = key_path(text.get_ref(), credentials).ok()?;
    let shown = path.display();
    let found = match PrivateKey::load(&path, key_access(text.get_ref())) {
        Ok(key) => key.public_id(),
        Err(error) => {
            let (title, label, next) = key_trouble(&path, &error);
            return Some(Diagnostic::error(text.span(), title, label, next));
        }
    };
    let me = raw.node.as_ref()?;
    let node = raw.nodes.iter().find(|node| node.name.get_ref() == me.get_ref())?;
    let configured = node.id.as_ref()?;
    if NodeId::parse(configured.get_ref()).ok()? == found {
        return None;
    }
    let title = format!("the key {shown} is not the key of `{}`", me.get_ref());
    let label = format!("the key's id is {found}");
    let next = "correct this id here and on the other nodes, or use the right key file";
    Some(Diagnostic::error(configured.span(), title, label, next).also(text.span(), "the key"))
}

/// Title, label and next step.
fn key_trouble(path: &Path, error: &KeyError) -> (String, &'static str, String) {
    let shown = path.display();
    match error {
        KeyError::Exposed { mode, .. } => (
            format!("the key {shown} has mode {mode:04o}: others may use it"),
            "expected mode 0600",
            format!("`chmod 600 {shown}`, and make a new key if somebody may have read it"),
        ),
        KeyError::Read { source, .. } => (
            format!("cannot open the key {shown}: {source}"),
            "not readable",
            match source.kind() {
                ErrorKind::NotFound => format!("`chainsync keygen --out {shown}` writes one"),
                _ => "run this as the user that runs the daemon, or pass --without-key".to_owned(),
            },
        ),
        error => (
            error.to_string(),
            "not a key",
            "name the file that `chainsync keygen` wrote".to_owned(),
        ),
    }
}

fn look_at_share(text: &Spanned<String>) -> Option<Diagnostic> {
    let path = place::absolute(text.get_ref()).ok()?;
    let shown = path.display();
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => None,
        Ok(_) => {
            let title = format!("the share {shown} is not a directory");
            Some(Diagnostic::error(text.span(), title, "not a directory", "name a directory"))
        }
        Err(reason) => {
            // Never created by us: an empty directory where a disk should be mounted would look
            // like everything had been deleted.
            let title = format!("cannot open the share {shown}: {reason}");
            let next = "create or mount it first; chainsync never creates the root of a share";
            Some(Diagnostic::error(text.span(), title, "not there", next))
        }
    }
}

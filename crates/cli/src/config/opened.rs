//! What the configuration points to: the key must be readable by us alone and be this node's, the
//! shares must be directories. Changes nothing.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::host::key;
use chainsync_core::NodeId;
use toml::Spanned;

use super::diagnostic::Diagnostic;
use super::place;
use super::read::Raw;
use super::validate::{is_credential, key_path};

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
    let error = |title: String, label: &str, next: String| {
        Some(Diagnostic::error(text.span(), title, label, next))
    };
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(reason) => {
            let next = match reason.kind() {
                std::io::ErrorKind::NotFound => {
                    format!("`chainsync keygen --out {shown}` writes one")
                }
                _ => "run this as the user that runs the daemon, or pass --without-key".to_owned(),
            };
            return error(format!("cannot open the key {shown}: {reason}"), "not readable", next);
        }
    };
    let mode = metadata.permissions().mode() & 0o7777;
    if !is_credential(text.get_ref()) && mode & 0o077 != 0 {
        let title = format!("the key {shown} has mode {mode:04o}: others may read or change it");
        return error(title, "expected mode 0600", format!("`chmod 600 {shown}`"));
    }
    let secret = match key::load(&path) {
        Ok(secret) => secret,
        Err(reason) => {
            let next = format!(
                "it must be a file that `chainsync keygen` wrote, readable by this user (owner uid {})",
                metadata.uid()
            );
            return error(format!("cannot use the key {shown}: {reason}"), "not usable", next);
        }
    };
    let found = key::public_id(&secret);
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

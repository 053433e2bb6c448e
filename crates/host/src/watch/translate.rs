//! From notify's events to ours: pure functions.

use std::path::Path;

use chainsync_core::hints::Urgency;
use chainsync_env::WatchEvent;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind};

use super::names::{Names, Place};

/// What an event of a watched directory means; `None` if nothing.
pub(super) fn translate(event: &Event, names: &Names) -> Option<WatchEvent> {
    // Asked of the event as a whole: it has no paths then.
    if event.need_rescan() {
        return Some(WatchEvent::Overflow);
    }
    let urgency = urgency(&event.kind)?;
    match names.place(event.paths.first()?)? {
        Place::Below(path) => Some(WatchEvent::Hint(path, urgency)),
        Place::Root if ends_a_directory(&event.kind) => Some(WatchEvent::RootGone),
        // Its metadata is nobody's business.
        Place::Root => None,
    }
}

/// What an event of the root's parent means.
pub(super) fn translate_parent(event: &Event, parent: &Path, root: &Path) -> Option<WatchEvent> {
    if event.need_rescan() {
        return Some(WatchEvent::Overflow);
    }
    let path = event.paths.first()?;
    let gone = ends_a_directory(&event.kind) && (path == root || path == parent);
    gone.then_some(WatchEvent::RootGone)
}

/// Whether another directory may be at the event's path now.
pub(super) fn moves_a_name(event: &Event) -> bool {
    matches!(
        event.kind,
        EventKind::Create(CreateKind::Folder)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_))
    )
}

/// How far the change is that an event tells of.
fn urgency(kind: &EventKind) -> Option<Urgency> {
    match kind {
        // An empty directory is complete.
        EventKind::Create(CreateKind::Folder) => Some(Urgency::Finished),
        // notify calls everything else a file. A file will be closed by its writer; of a symlink, a
        // hard link or a FIFO, which are complete too, this is all that is ever heard: a started
        // hint has to be looked at by and by even if no other follows.
        EventKind::Create(_) => Some(Urgency::Started),
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Urgency::Finished),
        EventKind::Access(_) => None,
        EventKind::Remove(_) => Some(Urgency::Finished),
        // A repetition of the `From` and the `To` before it.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(ModifyKind::Name(_)) => Some(Urgency::Finished),
        EventKind::Modify(ModifyKind::Metadata(_)) => Some(Urgency::Finished),
        // Not asked for. Something happened there, and nothing says that it is over.
        EventKind::Modify(_) | EventKind::Any | EventKind::Other => Some(Urgency::Started),
    }
}

/// Whether the directory at the event's path is deleted, unmounted or renamed.
fn ends_a_directory(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use chainsync_core::RelPath;
    use notify::event::{DataChange, Flag, MetadataKind, RemoveKind};

    use super::*;

    fn names() -> Names {
        Names::new(7)
    }

    fn event(kind: EventKind, path: PathBuf) -> Event {
        Event::new(kind).add_path(path)
    }

    #[test]
    fn each_kind_has_its_urgency() {
        use Urgency::{Finished, Started};
        let name = |mode| EventKind::Modify(ModifyKind::Name(mode));
        for (kind, expected) in [
            (EventKind::Create(CreateKind::File), Some(Started)),
            (EventKind::Create(CreateKind::Any), Some(Started)),
            (EventKind::Create(CreateKind::Folder), Some(Finished)),
            (EventKind::Access(AccessKind::Close(AccessMode::Write)), Some(Finished)),
            (EventKind::Access(AccessKind::Close(AccessMode::Read)), None),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), None),
            (EventKind::Remove(RemoveKind::File), Some(Finished)),
            (EventKind::Remove(RemoveKind::Folder), Some(Finished)),
            (EventKind::Remove(RemoveKind::Other), Some(Finished)),
            (name(RenameMode::From), Some(Finished)),
            (name(RenameMode::To), Some(Finished)),
            (name(RenameMode::Both), None),
            (EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), Some(Finished)),
            (EventKind::Modify(ModifyKind::Data(DataChange::Any)), Some(Started)),
            (EventKind::Any, Some(Started)),
        ] {
            let path = RelPath::new("a/b").unwrap();
            let event = event(kind, names().key(Some(&path), 1));
            let expected = expected.map(|urgency| WatchEvent::Hint(path, urgency));
            assert_eq!(translate(&event, &names()), expected, "{kind:?}");
        }
    }

    #[test]
    fn an_overflow_has_no_path() {
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(translate(&overflow, &names()), Some(WatchEvent::Overflow));
        assert_eq!(translate(&Event::new(EventKind::Other), &names()), None);
        let parent = translate_parent(&overflow, Path::new("/srv"), Path::new("/srv/www"));
        assert_eq!(parent, Some(WatchEvent::Overflow));
    }

    #[test]
    fn the_root_is_gone_when_it_is_deleted_renamed_or_unmounted() {
        let from = EventKind::Modify(ModifyKind::Name(RenameMode::From));
        let to = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let (folder, unmounted) = (RemoveKind::Folder, RemoveKind::Other);
        let metadata = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        for (kind, gone) in [
            (EventKind::Remove(folder), true),
            (EventKind::Remove(unmounted), true),
            (from, true),
            (to, false),
            (metadata, false),
        ] {
            let gone = gone.then_some(WatchEvent::RootGone);
            let own = event(kind, names().key(None, 0));
            assert_eq!(translate(&own, &names()), gone, "{kind:?}");
            let (parent, root) = (Path::new("/srv"), Path::new("/srv/www"));
            for path in [root, parent] {
                let event = event(kind, path.to_owned());
                assert_eq!(translate_parent(&event, parent, root), gone, "{kind:?} {path:?}");
            }
            let other = event(kind, PathBuf::from("/srv/www2"));
            assert_eq!(translate_parent(&other, parent, root), None);
        }
    }
}

//! From the kernel's events to ours.

use chainsync_core::RelPath;
use chainsync_core::hints::Urgency;
use chainsync_env::WatchEvent;
use rustix::fs::inotify::ReadFlags;

use super::table::{Place, Table};

/// One event as inotify(7) tells it.
#[derive(Debug)]
pub(super) struct Event<'e> {
    pub(super) descriptor: i32,
    pub(super) happened: ReadFlags,
    /// `None` if it is about the watched directory itself.
    pub(super) name: Option<&'e [u8]>,
}

/// What an event means; `None` if nothing. Notes in the table what has ended.
pub(super) fn translate(event: &Event<'_>, table: &mut Table) -> Option<WatchEvent> {
    if event.happened.contains(ReadFlags::QUEUE_OVERFLOW) {
        return Some(WatchEvent::Overflow);
    }
    // None: of a watch that we ended.
    let place = table.place(event.descriptor)?;
    if event.happened.contains(ReadFlags::IGNORED) {
        table.ended(event.descriptor);
    }
    match (place, event.name) {
        (Place::Parent(root), Some(name)) => {
            let left = event.happened.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
            (left && name == root).then_some(WatchEvent::RootGone)
        }
        (Place::Parent(_) | Place::Dir(None), None) => {
            event.happened.intersects(ENDS).then_some(WatchEvent::RootGone)
        }
        // Its parent is watched as well, and tells.
        (Place::Dir(Some(_)), None) => None,
        (Place::Dir(dir), Some(name)) => {
            let urgency = urgency(event.happened);
            match RelPath::child(dir.as_ref(), name) {
                Ok(path) => Some(WatchEvent::Hint(path, urgency)),
                // Too long for a path of ours: then it is about the directory that holds it.
                Err(_) => Some(WatchEvent::Hint(dir?, Urgency::Finished)),
            }
        }
    }
}

/// The directory is deleted, renamed or unmounted.
const ENDS: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED);

/// How far the change is that an event tells of.
fn urgency(happened: ReadFlags) -> Urgency {
    // A file will be closed by its writer; of a symlink, a hard link or a FIFO, which are complete
    // too, this is all that is ever heard: a started hint has to be looked at by and by even if no
    // other follows. An empty directory is complete.
    if happened.contains(ReadFlags::CREATE) && !happened.contains(ReadFlags::ISDIR) {
        Urgency::Started
    } else {
        Urgency::Finished
    }
}

#[cfg(test)]
mod tests {
    use Urgency::{Finished, Started};

    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        table.watch_parent(1, b"www");
        table.add(None, 2);
        table.add(Some(&RelPath::new("a").unwrap()), 3);
        table
    }

    fn of(descriptor: i32, happened: ReadFlags, name: Option<&[u8]>) -> Option<WatchEvent> {
        translate(&Event { descriptor, happened, name }, &mut table())
    }

    #[test]
    fn each_kind_has_its_urgency() {
        for (happened, urgency) in [
            (ReadFlags::CREATE, Started),
            (ReadFlags::CREATE | ReadFlags::ISDIR, Finished),
            (ReadFlags::CLOSE_WRITE, Finished),
            (ReadFlags::ATTRIB, Finished),
            (ReadFlags::DELETE, Finished),
            (ReadFlags::MOVED_FROM, Finished),
            (ReadFlags::MOVED_TO | ReadFlags::ISDIR, Finished),
        ] {
            let hint = WatchEvent::Hint(RelPath::new("a/b").unwrap(), urgency);
            assert_eq!(of(3, happened, Some(b"b")), Some(hint), "{happened:?}");
        }
    }

    #[test]
    fn the_root_is_gone_when_it_is_deleted_renamed_or_unmounted() {
        for (happened, gone) in [
            (ReadFlags::DELETE_SELF, true),
            (ReadFlags::MOVE_SELF, true),
            (ReadFlags::UNMOUNT, true),
            (ReadFlags::IGNORED, true),
            (ReadFlags::ATTRIB | ReadFlags::ISDIR, false),
        ] {
            let gone = gone.then_some(WatchEvent::RootGone);
            assert_eq!(of(1, happened, None), gone, "{happened:?}");
            assert_eq!(of(2, happened, None), gone, "{happened:?}");
            assert_eq!(of(3, happened, None), None, "{happened:?}");
        }
        assert_eq!(of(1, ReadFlags::DELETE, Some(b"www")), Some(WatchEvent::RootGone));
        assert_eq!(of(1, ReadFlags::MOVED_FROM, Some(b"www")), Some(WatchEvent::RootGone));
        assert_eq!(of(1, ReadFlags::DELETE, Some(b"www2")), None);
    }

    #[test]
    fn an_overflow_has_no_watch_and_an_ended_one_no_events() {
        assert_eq!(of(-1, ReadFlags::QUEUE_OVERFLOW, None), Some(WatchEvent::Overflow));
        assert_eq!(of(4, ReadFlags::DELETE, Some(b"x")), None);
        let mut table = table();
        let ended = Event { descriptor: 3, happened: ReadFlags::IGNORED, name: None };
        assert_eq!((translate(&ended, &mut table), table.len()), (None, 1));
    }

    #[test]
    fn a_name_too_long_means_its_directory() {
        let deep = "d".repeat(200) + &format!("/{}", "d".repeat(200)).repeat(19);
        let deep = RelPath::new(deep).unwrap();
        let mut table = table();
        table.add(Some(&deep), 5);
        let long = Event { descriptor: 5, happened: ReadFlags::DELETE, name: Some(&[b'f'; 100]) };
        assert_eq!(translate(&long, &mut table), Some(WatchEvent::Hint(deep, Finished)));
    }
}

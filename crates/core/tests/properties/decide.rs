//! Decisions are total, and never give up what the disk shows unless it is what was published.

use chainsync_core::decide::{
    Action, Effect, Seen, Unsupported, change_version, decide, displaced_as_published, effect, see,
};
use chainsync_core::disk::{FileType, Stat};
use chainsync_core::entry::{Entry, Kind, MODE_MASK};
use chainsync_core::record::{Identity, Published, Record};
use chainsync_core::version::ReplicaId;
use proptest::option;
use proptest::prelude::*;

use crate::generate::{ROOT_DEVICE, entry, file_type, identity, kind, published, stat};

fn record() -> BoxedStrategy<Record> {
    (entry(), option::of(published()), any::<bool>())
        .prop_map(|(entry, published, as_known)| {
            let mut record = Record::new(&entry, 1);
            if let Some(mut published) = published {
                if as_known {
                    published.kind = entry.kind;
                    published.version = entry.version;
                }
                record.publish(published);
            }
            record
        })
        .boxed()
}

/// What a disk shows right after `published` was put there, its ctime long past.
fn shown(published: &Published, stat: Stat) -> (Published, Option<Stat>) {
    let file_type = match &published.kind {
        Kind::File { .. } => FileType::File,
        Kind::Dir { .. } => FileType::Dir,
        Kind::Symlink { .. } => FileType::Symlink,
        Kind::Tombstone { .. } => {
            return (Published { identity: None, ..published.clone() }, None);
        }
    };
    let mut stat = Stat { file_type, device: ROOT_DEVICE, ..stat };
    if let Kind::Dir { mode, owner } = &published.kind {
        stat.mode = *mode;
        if let Some(owner) = owner {
            (stat.uid, stat.gid) = (owner.uid, owner.gid);
        }
    }
    let identity = Identity { settled: true, ..Identity::of(&stat, 0, 0) };
    (Published { identity: Some(identity), ..published.clone() }, Some(stat))
}

/// Whether the disk provably shows what was published, said another way than the code does.
fn as_published(published: Option<&Published>, disk: Option<&Stat>) -> bool {
    let live = published.filter(|published| published.kind.is_live());
    let (Some(published), Some(stat)) = (live, disk) else {
        return live.is_none() && disk.is_none();
    };
    let same_inode = published.identity.is_some_and(|identity| {
        identity.settled
            && (identity.inode, identity.size) == (stat.inode, stat.size)
            && (identity.mtime_ns, identity.ctime_ns) == (stat.mtime_ns, stat.ctime_ns)
    });
    stat.device == ROOT_DEVICE
        && match &published.kind {
            Kind::File { .. } => stat.file_type == FileType::File && same_inode,
            Kind::Symlink { .. } => stat.file_type == FileType::Symlink && same_inode,
            Kind::Dir { mode, owner } => {
                stat.file_type == FileType::Dir
                    && *mode == stat.mode & MODE_MASK
                    && owner.is_none_or(|owner| (owner.uid, owner.gid) == (stat.uid, stat.gid))
            }
            Kind::Tombstone { .. } => false,
        }
}

fn is_special(file_type: FileType) -> bool {
    matches!(file_type, FileType::Fifo | FileType::Socket | FileType::Device)
}

proptest! {
    #[test]
    fn an_incoming_entry_is_judged_only_where_the_disk_shows_what_was_published(
        record in option::of(record()),
        disk in option::of(stat()),
        incoming in option::of(entry()),
    ) {
        let published = record.as_ref().and_then(Record::published);
        let safe = as_published(published.as_ref(), disk.as_ref());
        let action = decide(record.as_ref(), disk.as_ref(), incoming.as_ref(), ROOT_DEVICE);
        match action {
            Action::Accept { .. } | Action::Refuse { .. } => {
                prop_assert!(safe && incoming.is_some());
            }
            Action::Nothing => prop_assert!(safe),
            Action::Examine | Action::Ingest | Action::Problem(_) => prop_assert!(!safe),
        }
        prop_assert_eq!(
            see(published.as_ref(), disk.as_ref(), ROOT_DEVICE) == Seen::AsPublished,
            safe
        );
    }

    #[test]
    fn what_was_put_there_is_recognised(
        known in entry(),
        published in published(),
        stat in stat(),
        incoming in entry(),
    ) {
        let (published, disk) = shown(&published, stat);
        let mut record = Record::new(&known, 1);
        record.publish(published);
        let action = decide(Some(&record), disk.as_ref(), None, ROOT_DEVICE);
        prop_assert_eq!(action, Action::Nothing, "own writes are no change");
        let action = decide(Some(&record), disk.as_ref(), Some(&incoming), ROOT_DEVICE);
        let (stamp, known) = (incoming.version.stamp, record.version.stamp);
        match action {
            Action::Accept { .. } => prop_assert!(stamp >= known),
            Action::Refuse { .. } => prop_assert!(stamp <= known),
            action => prop_assert_eq!(action, Action::Nothing),
        }
        // Once accepted, the same entry says nothing new.
        record.supersede(&incoming, 2);
        let again = decide(Some(&record), disk.as_ref(), Some(&incoming), ROOT_DEVICE);
        prop_assert_eq!(again, Action::Nothing);
    }

    #[test]
    fn an_unsettled_identity_proves_nothing(
        published in published(),
        stat in stat(),
        incoming in option::of(entry()),
    ) {
        let (published, disk) = shown(&published, stat);
        let has_content = matches!(published.kind, Kind::File { .. } | Kind::Symlink { .. });
        prop_assume!(has_content);
        for identity in [None, published.identity.map(|it| Identity { settled: false, ..it })] {
            let published = Published { identity, ..published.clone() };
            let seen = see(Some(&published), disk.as_ref(), ROOT_DEVICE);
            prop_assert_eq!(seen, Seen::Examine);
            let (kind, version) = (published.kind.clone(), published.version.clone());
            let path = chainsync_core::RelPath::new("f").unwrap();
            let mut record = Record::new(&Entry { path, kind, version }, 1);
            record.publish(published);
            let action = decide(Some(&record), disk.as_ref(), incoming.as_ref(), ROOT_DEVICE);
            prop_assert_eq!(action, Action::Examine);
        }
    }

    #[test]
    fn what_cannot_be_replicated_is_a_problem_and_never_a_change(
        record in option::of(record()),
        stat in stat(),
        file_type in file_type(),
        incoming in option::of(entry()),
    ) {
        let stat = Stat { file_type, ..stat };
        let action = decide(record.as_ref(), Some(&stat), incoming.as_ref(), ROOT_DEVICE);
        if stat.device != ROOT_DEVICE {
            prop_assert_eq!(action, Action::Problem(Unsupported::Mount));
        } else if is_special(file_type) {
            prop_assert_eq!(action, Action::Problem(Unsupported::Special(file_type)));
        } else {
            prop_assert!(!matches!(action, Action::Problem(_)));
        }
    }

    #[test]
    fn at_most_two_steps_bring_any_name_to_any_kind(now in option::of(kind()), desired in kind()) {
        let mut disk = now.filter(Kind::is_live);
        for _ in 0..2 {
            disk = step(effect(disk.as_ref(), &desired), disk, &desired)?;
        }
        prop_assert_eq!(effect(disk.as_ref(), &desired), Effect::Nothing);
        prop_assert_eq!(disk, Some(desired).filter(Kind::is_live));
    }

    #[test]
    fn a_displaced_inode_counts_only_if_its_identity_was_proof(
        identity in option::of(identity()),
        stat in stat(),
    ) {
        let proof = identity.is_some_and(|identity| {
            identity.settled
                && (identity.inode, identity.size, identity.mtime_ns)
                    == (stat.inode, stat.size, stat.mtime_ns)
        });
        prop_assert_eq!(displaced_as_published(identity.as_ref(), &stat), proof);
    }

    #[test]
    fn a_change_that_is_recorded_is_no_change_any_more(
        known in entry(),
        before in published(),
        found in kind(),
        stat in stat(),
    ) {
        let mut record = Record::new(&known, 1);
        record.publish(before);
        let base = record.published();
        let version = change_version(base.as_ref(), 3, ReplicaId(9), 1);
        let change = Published { kind: found.clone(), version: version.clone(), identity: None };
        let (change, disk) = shown(&change, stat);
        record.publish(change);
        // Whether it then wins over what is known, or loses to it.
        if version.stamp > known.version.stamp {
            let path = known.path.clone();
            record.supersede(&Entry { path, kind: found.clone(), version }, 2);
            prop_assert!(record.is_published_as_known());
        } else {
            prop_assert!(!record.is_published_as_known());
        }
        let action = decide(Some(&record), disk.as_ref(), None, ROOT_DEVICE);
        prop_assert_eq!(action, Action::Nothing);
    }
}

/// One operation on a name of an abstract disk; an error if no kernel would do it.
fn step(effect: Effect, disk: Option<Kind>, desired: &Kind) -> Result<Option<Kind>, TestCaseError> {
    let is_dir = disk.as_ref().is_some_and(Kind::is_dir);
    Ok(match effect {
        Effect::Nothing => disk,
        Effect::Place => {
            prop_assert!(disk.is_none() && desired.is_live());
            Some(desired.clone())
        }
        Effect::Swap => {
            prop_assert!(disk.is_some() && !is_dir && desired.is_live());
            Some(desired.clone())
        }
        Effect::Metadata => {
            let now = disk.as_ref().and_then(Kind::content);
            prop_assert_eq!(now, desired.content(), "a change of metadata moves no content");
            prop_assert_eq!(is_dir, desired.is_dir());
            Some(desired.clone())
        }
        Effect::Take => {
            prop_assert!(disk.is_some() && !is_dir && !desired.is_live());
            None
        }
        Effect::RemoveDir => {
            prop_assert!(is_dir);
            None
        }
    })
}

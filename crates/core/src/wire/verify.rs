//! The frames with which one member looks at the tree of another (`chainsync verify`).
//!
//! ```text
//! asker                                      member
//!    Inspect(question) ──────────────────────────▶
//!    ◀────────────── Ping while it works │ Goodbye
//!    ◀──────────── Inspected: Digests │ Entries… End
//! ```
//!
//! One connection, one question; an `Inspect` takes the place of the `Hello`, and its sender is held
//! against the ring in the same way. Paths fall into buckets by their hash; equal digests of a bucket
//! mean equal contents, so that only buckets that differ are listed. A build that does not know these
//! frames refuses the connection, and is named as one that could not be asked.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::{REASON_BYTES_MAX, WireError, check, check_vector, clipped, put, whole};
use crate::bounded;
use crate::entry::{Kind, SYMLINK_TARGET_BYTES_MAX};
use crate::hash::ContentHash;
use crate::knowledge::VersionVector;
use crate::name::{NodeName, ShareName};
use crate::path::RelPath;

/// Digests of one answer: 16,384 are 640 KiB, and leave some 60 paths a bucket in a tree of a million.
pub const BUCKETS_MAX: usize = 16_384;
/// Buckets listed at a time.
pub const BUCKETS_WANTED_MAX: usize = 1024;
/// Entries in one frame: with the longest paths and targets, 8 MiB.
pub const LISTED_MAX: usize = 1024;
/// Paths that one member names because its own disk and index differ there.
pub const DOUBTS_MAX: usize = 1000;

/// Asks a member about its tree: the first frame of its connection, and the only one from the asker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspect {
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub share: ShareName,
    pub node: NodeName,
    pub question: Question,
}

/// `deep`: the contents on disk are read, whatever the index says of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// What is published, as digests of so many buckets.
    Digests { buckets: u32, deep: bool },
    /// What is published in some of so many buckets.
    List {
        buckets: u32,
        #[serde(deserialize_with = "bounded::vec::<_, _, BUCKETS_WANTED_MAX>")]
        wanted: Vec<u32>,
        deep: bool,
    },
}

/// An answer, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inspected {
    Digests(Digests),
    Entries(#[serde(deserialize_with = "bounded::vec::<_, _, LISTED_MAX>")] Vec<Listed>),
    /// All entries have been sent.
    End,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Digests {
    #[serde(deserialize_with = "bounded::vec::<_, _, BUCKETS_MAX>")]
    pub buckets: Vec<Bucket>,
    /// What the member knew: once another one has applied all of it, what still differs differs.
    pub knowledge: VersionVector,
    /// Where the member's disk and index differ (only if the question was deep), as far as listed.
    #[serde(deserialize_with = "bounded::vec::<_, _, DOUBTS_MAX>")]
    pub doubts: Vec<Doubt>,
    /// Whether there were more.
    pub more_doubts: bool,
    /// Why the share does not move there, if it does not.
    pub halted: Option<String>,
}

/// What is published in one bucket, whatever the order in which it is gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bucket {
    pub entries: u64,
    digest: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub path: RelPath,
    pub kind: Kind,
}

/// A path at which a member's disk does not show what its index says, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub path: RelPath,
    pub what: String,
}

impl Bucket {
    /// Adds what is published at a path. Every path comes once, so that nothing cancels out.
    pub fn add(&mut self, path: &RelPath, kind: &Kind) {
        self.entries += 1;
        let mut bytes = BytesMut::new();
        super::serialize(&mut bytes, &(path, kind));
        let hash = ContentHash::of(&bytes);
        self.digest.iter_mut().zip(hash.as_bytes()).for_each(|(sum, byte)| *sum ^= byte);
    }
}

/// The bucket of a path among so many.
pub fn bucket_of(path: &RelPath, buckets: u32) -> u32 {
    let hash = ContentHash::of(path.as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_be_bytes([a, b, c, d]) % buckets.max(1)
}

impl Inspect {
    pub(super) fn encode(&self, out: &mut BytesMut, kind: u8) {
        put(out, kind, self);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let inspect: Inspect = whole("Inspect", body)?;
        let (Question::Digests { buckets, .. } | Question::List { buckets, .. }) =
            &inspect.question;
        check("Inspect", "buckets", *buckets as usize, BUCKETS_MAX)?;
        Ok(inspect)
    }
}

impl Inspected {
    pub(super) fn encode(&self, out: &mut BytesMut, kind: u8) {
        match self {
            // Reasons may name paths and be longer than peers take.
            Self::Digests(digests) => {
                let mut digests = digests.clone();
                digests.halted = digests.halted.as_deref().map(clipped).map(str::to_owned);
                for doubt in &mut digests.doubts {
                    doubt.what = clipped(&doubt.what).to_owned();
                }
                put(out, kind, &Self::Digests(digests));
            }
            other => put(out, kind, other),
        }
    }

    pub(super) fn decode(body: &[u8]) -> Result<Self, WireError> {
        let inspected: Inspected = whole("Inspected", body)?;
        let reason = |reason: &str| check("Inspected", "bytes", reason.len(), REASON_BYTES_MAX);
        match &inspected {
            Self::Digests(digests) => {
                check_vector("Inspected", digests.knowledge.len())?;
                reason(digests.halted.as_deref().unwrap_or(""))?;
                digests.doubts.iter().try_for_each(|doubt| reason(&doubt.what))?;
            }
            Self::Entries(entries) => {
                for Listed { path, kind } in entries {
                    if let Kind::Symlink { target } = kind
                        && target.len() > SYMLINK_TARGET_BYTES_MAX
                    {
                        let (path, bytes) = (path.clone(), target.len());
                        return Err(WireError::Target { path, bytes });
                    }
                }
            }
            Self::End => {}
        }
        Ok(inspected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Frame;

    fn inspect(question: Question) -> Frame {
        Frame::Inspect(Inspect {
            protocol_min: 1,
            protocol_max: 1,
            share: ShareName::new("files").unwrap(),
            node: NodeName::new("apollo").unwrap(),
            question,
        })
    }

    fn back(frame: &Frame) -> Result<Option<Frame>, WireError> {
        let mut buffer = BytesMut::new();
        frame.encode(&mut buffer);
        Frame::decode(&mut buffer)
    }

    #[test]
    fn questions_and_answers_arrive_as_they_were() {
        let path = RelPath::new("a/b").unwrap();
        let kind = Kind::Symlink { target: b"c".to_vec() };
        let doubt = Doubt { path: path.clone(), what: "differs".to_owned() };
        let digests = Digests {
            buckets: vec![Bucket::default(); BUCKETS_MAX],
            doubts: vec![doubt; DOUBTS_MAX],
            halted: Some("paused".to_owned()),
            ..Digests::default()
        };
        let wanted = (0..BUCKETS_WANTED_MAX as u32).collect();
        for frame in [
            inspect(Question::Digests { buckets: 16, deep: true }),
            inspect(Question::List { buckets: BUCKETS_MAX as u32, wanted, deep: false }),
            Frame::Inspected(Inspected::Digests(digests)),
            Frame::Inspected(Inspected::Entries(vec![Listed { path, kind }; LISTED_MAX])),
            Frame::Inspected(Inspected::End),
        ] {
            assert_eq!(back(&frame).unwrap(), Some(frame));
        }
    }

    #[test]
    fn what_exceeds_a_bound_is_refused() {
        let path = RelPath::new("a").unwrap();
        let long = vec![b'x'; SYMLINK_TARGET_BYTES_MAX + 1];
        let listed = |target| Listed { path: path.clone(), kind: Kind::Symlink { target } };
        let many = BUCKETS_MAX as u32 + 1;
        let wanted = vec![0; BUCKETS_WANTED_MAX + 1];
        let digests = |buckets, doubts| {
            let doubt = Doubt { path: path.clone(), what: String::new() };
            let buckets = vec![Bucket::default(); buckets];
            let doubts = vec![doubt; doubts];
            Frame::Inspected(Inspected::Digests(Digests { buckets, doubts, ..Digests::default() }))
        };
        for frame in [
            inspect(Question::Digests { buckets: many, deep: false }),
            inspect(Question::List { buckets: 16, wanted, deep: false }),
            digests(BUCKETS_MAX + 1, 0),
            digests(1, DOUBTS_MAX + 1),
            Frame::Inspected(Inspected::Entries(vec![listed(b"t".to_vec()); LISTED_MAX + 1])),
            Frame::Inspected(Inspected::Entries(vec![listed(long)])),
        ] {
            assert!(back(&frame).is_err());
        }
    }

    #[test]
    fn reasons_are_cut_to_what_peers_take() {
        let what = "ä".repeat(REASON_BYTES_MAX);
        let doubts = vec![Doubt { path: RelPath::new("a").unwrap(), what }];
        let digests = Digests { doubts, ..Digests::default() };
        let Some(Frame::Inspected(Inspected::Digests(digests))) =
            back(&Frame::Inspected(Inspected::Digests(digests))).unwrap()
        else {
            panic!("another frame");
        };
        assert_eq!(digests.doubts[0].what.len(), REASON_BYTES_MAX);
    }

    #[test]
    fn a_bucket_tells_contents_apart_and_not_their_order() {
        let paths = ["a", "b"].map(|path| RelPath::new(path).unwrap());
        let kinds = ["x", "y"].map(|target| Kind::Symlink { target: target.into() });
        let sum = |pairs: &[(usize, usize)]| {
            let mut bucket = Bucket::default();
            pairs.iter().for_each(|(path, kind)| bucket.add(&paths[*path], &kinds[*kind]));
            bucket
        };
        assert_eq!(sum(&[(0, 0), (1, 1)]), sum(&[(1, 1), (0, 0)]));
        assert_ne!(sum(&[(0, 0), (1, 1)]), sum(&[(0, 1), (1, 0)]));
        assert_ne!(sum(&[(0, 0)]), sum(&[(0, 1)]));
        assert_ne!(sum(&[(0, 0)]), sum(&[]));
    }
}

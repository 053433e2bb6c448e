//! The codec: what is sent arrives, and whatever else arrives is refused, never panicked over.

use bytes::{BufMut, Bytes, BytesMut};
use chainsync_core::batch::{BATCH_ENTRIES_MAX, BatchBuilder};
use chainsync_core::entry::{Entry, Kind};
use chainsync_core::recipe::RecipeChunk;
use chainsync_core::wire::{
    Ack, Batch, BatchEntry, CHUNK_BYTES_MAX, Chunk, ContentRef, Cursor, FRAME_BYTES_MAX, Frame,
    Hello, Pack, PackCodec, PassEnd, REASON_BYTES_MAX, RecipePart, Want, WantRecipe, Welcome,
    WireError, common_protocol,
};
use chainsync_core::{ContentHash, RelPath, ShareName};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;

use crate::generate::{entry, knowledge, path, real_stamp, vector, version};
use crate::gossip::{node, row};

/// The content that `generate::file` hashes for this size.
fn content_of(entry: &Entry) -> Option<Bytes> {
    let (hash, size) = entry.kind.content()?;
    let content = vec![size as u8; size as usize];
    assert_eq!(ContentHash::of(&content), hash);
    Some(content.into())
}

prop_compose! {
    fn pass_end()(
        knowledge in knowledge(),
        collected in vector(),
        collected_stamp in option::of(real_stamp()),
        full in any::<bool>(),
    ) -> PassEnd {
        PassEnd { knowledge, collected, collected_stamp, full }
    }
}

fn cursor() -> impl Strategy<Value = Cursor> {
    (any::<u64>(), any::<u64>()).prop_map(|(sequence, tag)| Cursor { sequence, tag })
}

prop_compose! {
    fn batch()(
        number in any::<u64>(),
        entries in vec((entry(), any::<bool>()), 0..6),
        cursor in cursor(),
        end in option::of(pass_end()),
        held in vec(path(), 0..4),
    ) -> Batch {
        let mut builder = BatchBuilder::default();
        for (entry, inline) in entries {
            let content = content_of(&entry).filter(|_| inline);
            builder.push(entry, content.as_ref());
        }
        let (entries, packs) = builder.finish();
        Batch { number, entries, cursor, end, held, packs }
    }
}

fn hash() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash::from_bytes)
}

fn frame() -> BoxedStrategy<Frame> {
    let share = ShareName::new("images").unwrap();
    prop_oneof![
        (any::<(u32, u32)>(), node(), row()).prop_map(move |(protocols, node, row)| {
            let (protocol_min, protocol_max) = protocols;
            Frame::Hello(Hello { protocol_min, protocol_max, share: share.clone(), node, row })
        }),
        (any::<u32>(), row(), cursor(), vector()).prop_map(|(protocol, row, cursor, collected)| {
            Frame::Welcome(Welcome { protocol, row, cursor, collected })
        }),
        batch().prop_map(Frame::Batch),
        batch().prop_map(Frame::Batch),
        (any::<u64>(), option::of(knowledge()))
            .prop_map(|(number, knowledge)| Frame::Ack(Ack { number, knowledge })),
        Just(Frame::Ping),
        vec((node(), row()), 0..4).prop_map(Frame::Rows),
        (hash(), path(), any::<(u64, u64)>()).prop_map(|(hash, path, (offset, length))| {
            Frame::Want(Want { hash, path, offset, length })
        }),
        (hash(), any::<u64>(), vec(any::<u8>(), 0..40)).prop_map(|(hash, offset, data)| {
            Frame::Chunk(Chunk { hash, offset, data: data.into() })
        }),
        hash().prop_map(Frame::Unavailable),
        (hash(), path()).prop_map(|(hash, path)| Frame::WantRecipe(WantRecipe { hash, path })),
        (hash(), vec((any::<u32>(), hash()), 0..5), any::<bool>()).prop_map(
            |(of, chunks, ends)| {
                let chunk = |(bytes, hash)| RecipeChunk { bytes, hash };
                let chunks = chunks.into_iter().map(chunk).collect();
                Frame::Recipe(RecipePart { hash: of, chunks, ends })
            }
        ),
        "[a-zäö]{0,20}".prop_map(Frame::Goodbye),
    ]
    .boxed()
}

fn encoded(frame: &Frame) -> BytesMut {
    let mut buffer = BytesMut::new();
    frame.encode(&mut buffer);
    buffer
}

fn decoded(batch: Batch) -> Result<Option<Frame>, WireError> {
    Frame::decode(&mut encoded(&Frame::Batch(batch)))
}

/// Decodes all there is; what a batch holds is unpacked too. Only the absence of a panic counts.
fn decode_all(buffer: &mut BytesMut) {
    while let Ok(Some(frame)) = Frame::decode(buffer) {
        if let Frame::Batch(batch) = frame
            && let Ok(unpacked) = batch.unpack()
        {
            for entry in &batch.entries {
                entry.content_in(&unpacked);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_sent_arrives_in_order(frames in vec(frame(), 1..4)) {
        let mut buffer = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut buffer));
        for frame in frames {
            prop_assert_eq!(Frame::decode(&mut buffer).unwrap(), Some(frame));
        }
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn contents_come_out_of_a_batch_as_they_went_in(batch in batch()) {
        let frame = Frame::decode(&mut encoded(&Frame::Batch(batch.clone()))).unwrap();
        let Some(Frame::Batch(arrived)) = frame else { panic!("{frame:?}") };
        let unpacked = arrived.unpack().unwrap();
        for (sent, entry) in batch.entries.iter().zip(&arrived.entries) {
            let content = entry.content_in(&unpacked);
            match sent.content {
                ContentRef::Inline { .. } => prop_assert_eq!(content, content_of(&sent.entry)),
                ContentRef::None | ContentRef::Announced => prop_assert_eq!(content, None),
            }
        }
    }

    #[test]
    fn a_part_of_a_frame_waits_for_the_rest(frame in frame(), cut in any::<Index>()) {
        let whole = encoded(&frame).freeze();
        let cut = cut.index(whole.len());
        let mut buffer = BytesMut::from(&whole[..cut]);
        prop_assert_eq!(Frame::decode(&mut buffer).unwrap(), None);
        prop_assert_eq!(&buffer[..], &whole[..cut]);
        buffer.extend_from_slice(&whole[cut..]);
        prop_assert_eq!(Frame::decode(&mut buffer).unwrap(), Some(frame));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(kind in 0..12_u8, body in vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::new();
        buffer.put_u32(body.len() as u32 + 1);
        buffer.put_u8(kind);
        buffer.extend_from_slice(&body);
        decode_all(&mut buffer);
        decode_all(&mut BytesMut::from(&body[..]));
    }

    #[test]
    fn a_mutated_frame_does_not_panic(
        frame in frame(),
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
        cut in option::of(any::<Index>()),
    ) {
        let mut body = encoded(&frame).split_off(4);
        for (index, byte) in changes {
            let at = index.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let mut buffer = BytesMut::new();
        buffer.put_u32(body.len() as u32);
        buffer.extend_from_slice(&body);
        decode_all(&mut buffer);
    }
}

#[test]
fn an_overlong_frame_is_refused_by_its_length_alone() {
    for length in [FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let mut buffer = BytesMut::new();
        buffer.put_u32(length);
        let error = Frame::decode(&mut buffer).unwrap_err();
        assert!(matches!(error, WireError::FrameTooLong(_)), "{error}");
        assert!(buffer.capacity() < 1024);
    }
}

#[test]
fn empty_and_unknown_frames_are_refused() {
    let mut empty = BytesMut::from(&[0, 0, 0, 0][..]);
    assert!(matches!(Frame::decode(&mut empty), Err(WireError::Short)));
    let mut unknown = BytesMut::from(&[0, 0, 0, 1, 200][..]);
    assert!(matches!(Frame::decode(&mut unknown), Err(WireError::UnknownKind(200))));
    let mut trailing = BytesMut::from(&[0, 0, 0, 2, 5, 0][..]);
    assert!(matches!(Frame::decode(&mut trailing), Err(WireError::Trailing { rest: 1, .. })));
}

const CONTENT: &[u8] = b"a content of some length, a content of some length";

fn file_entry() -> BatchEntry {
    let kind = Kind::File {
        size: CONTENT.len() as u64,
        hash: ContentHash::of(CONTENT),
        mode: 0o644,
        mtime_ns: 0,
        owner: None,
    };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let version = version().new_tree(&mut runner).unwrap().current();
    let path = RelPath::new("f").unwrap();
    BatchEntry {
        entry: Entry { path, kind, version },
        content: ContentRef::Inline { pack: 0, offset: 0 },
    }
}

fn batch_of(entries: Vec<BatchEntry>, packs: Vec<Pack>) -> Batch {
    Batch { number: 1, entries, cursor: Cursor::default(), end: None, held: Vec::new(), packs }
}

fn pack(codec: PackCodec, raw_bytes: usize, data: &[u8]) -> Pack {
    Pack { codec, raw_bytes: raw_bytes as u32, data: Bytes::copy_from_slice(data) }
}

#[test]
fn a_content_outside_its_pack_is_refused() {
    for (pack, offset) in [(0, 1), (0, u32::MAX), (1, 0), (u32::MAX, 0)] {
        let entry = BatchEntry { content: ContentRef::Inline { pack, offset }, ..file_entry() };
        let packs = vec![Pack::compress(CONTENT.to_vec())];
        let error = decoded(batch_of(vec![entry], packs)).unwrap_err();
        assert!(matches!(error, WireError::ContentOutside { .. }), "{error}");
    }
}

#[test]
fn a_pack_that_lies_about_its_length_is_refused() {
    let squeezed = Pack::compress(vec![7; 5000]);
    assert_eq!(squeezed.codec, PackCodec::Zstd);
    // One more, one less, and a bomb: 4 MiB behind a header that claims 5,000.
    let bomb = Pack::compress(vec![0; 4 << 20]).data;
    let packs = [
        pack(PackCodec::Zstd, 5001, &squeezed.data),
        pack(PackCodec::Zstd, 4999, &squeezed.data),
        pack(PackCodec::Zstd, 5000, &bomb),
        pack(PackCodec::Zstd, 5000, b"not zstd at all"),
        pack(PackCodec::Raw, 51, CONTENT),
        pack(PackCodec::Raw, 49, CONTENT),
    ];
    for pack in packs {
        let Some(Frame::Batch(batch)) = decoded(batch_of(Vec::new(), vec![pack])).unwrap() else {
            panic!("a batch")
        };
        let error = batch.unpack().unwrap_err();
        assert!(matches!(error, WireError::Unpack(_) | WireError::PackLength { .. }), "{error}");
    }
}

#[test]
fn claims_of_much_memory_are_refused() {
    let large = pack(PackCodec::Zstd, u32::MAX as usize, b"");
    assert!(matches!(
        decoded(batch_of(Vec::new(), vec![large])),
        Err(WireError::TooMany { what: "bytes in a pack", .. })
    ));
    let many = vec![pack(PackCodec::Zstd, 4 << 20, b""); 100];
    let Some(Frame::Batch(batch)) = decoded(batch_of(Vec::new(), many)).unwrap() else {
        panic!("a batch")
    };
    assert!(matches!(batch.unpack(), Err(WireError::TooMany { what: "bytes in all packs", .. })));
    // Two bytes a path: far more memory than bytes.
    let held = vec![RelPath::new("f").unwrap(); 1 << 20];
    let batch = Batch { held, ..batch_of(Vec::new(), Vec::new()) };
    assert!(matches!(decoded(batch), Err(WireError::Malformed { .. })));
}

#[test]
fn entries_that_no_node_makes_are_refused() {
    let good = || (file_entry(), vec![Pack::compress(CONTENT.to_vec())]);
    let (entry, packs) = good();
    assert!(decoded(batch_of(vec![entry], packs)).is_ok());
    type Spoil = fn(&mut BatchEntry);
    let spoil: [(&str, Spoil); 7] = [
        ("dot 0", |it| it.entry.version.dot.counter = 0),
        ("its own past", |it| {
            let dot = it.entry.version.dot;
            it.entry.version.past.raise(dot);
        }),
        ("the far future", |it| it.entry.version.stamp.wall_ms = u64::MAX),
        ("setuid", |it| it.entry.kind = Kind::Dir { mode: 0o4755, owner: None }),
        ("a content of a directory", |it| it.entry.kind = Kind::Dir { mode: 0o755, owner: None }),
        ("a content left out", |it| it.content = ContentRef::None),
        ("no target", |it| {
            it.entry.kind = Kind::Symlink { target: Vec::new() };
            it.content = ContentRef::None;
        }),
    ];
    for (what, spoil) in spoil {
        let (mut entry, packs) = good();
        spoil(&mut entry);
        let result = decoded(batch_of(vec![entry], packs));
        assert!(
            matches!(result, Err(WireError::Entry { .. } | WireError::Target { .. })),
            "{what}: {result:?}"
        );
    }
}

#[test]
fn own_frames_stay_within_what_a_peer_takes() {
    let reason = "ä".repeat(REASON_BYTES_MAX);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut row = row().new_tree(&mut runner).unwrap().current();
    row.halted = Some(reason.clone());
    let node = chainsync_core::NodeName::new("apollo").unwrap();
    for frame in [Frame::Rows(vec![(node, row)]), Frame::Goodbye(reason)] {
        assert!(Frame::decode(&mut encoded(&frame)).unwrap().is_some());
    }
    let data = Bytes::from(vec![0; CHUNK_BYTES_MAX]);
    let chunk = Frame::Chunk(Chunk { hash: ContentHash::of(&data), offset: 0, data });
    assert!(Frame::decode(&mut encoded(&chunk)).unwrap().is_some());
}

proptest! {
    /// The greatest number in both ranges, whoever asks; nothing for ranges that are upside down.
    #[test]
    fn two_nodes_agree_on_the_greatest_protocol_they_share(
        mine in (0_u32..8, 0_u32..8),
        theirs in (0_u32..8, 0_u32..8),
    ) {
        let both = |protocol: &u32| {
            (mine.0..=mine.1).contains(protocol) && (theirs.0..=theirs.1).contains(protocol)
        };
        let chosen = common_protocol(mine, theirs);
        prop_assert_eq!(chosen, (0..8).rev().find(both));
        prop_assert_eq!(chosen, common_protocol(theirs, mine));
    }
}

/// The longest entries there can be: the builder must say in time that a batch is full.
#[test]
fn a_batch_of_the_longest_entries_fits_its_frame() {
    let path = RelPath::new(vec!["x".repeat(200); 20].join("/")).unwrap();
    let mut version = file_entry().entry.version;
    version.past =
        (1..4000).map(|replica| (chainsync_core::ReplicaId(!replica), 1 << 60)).collect();
    let kind = Kind::Symlink { target: vec![b'x'; 4096] };
    let entry = Entry { path, kind, version };
    let mut builder = BatchBuilder::default();
    while !builder.is_full_for(0) {
        builder.push(entry.clone(), None);
    }
    assert!((2..BATCH_ENTRIES_MAX).contains(&builder.len()));
    let (entries, packs) = builder.finish();
    assert!(decoded(batch_of(entries, packs)).unwrap().is_some());
}

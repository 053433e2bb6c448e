//! How much memory decoding can be made to take: a small multiple of the frame, whatever it claims.
//!
//! A test binary of its own, with one test: its allocator counts everything that the process holds.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, BytesMut};
use chainsync_core::RelPath;
use chainsync_core::wire::{Batch, Cursor, FRAME_BYTES_MAX, Frame, Pack, PackCodec};

struct Counting;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);
static PEAK_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD_BYTES.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK_BYTES.fetch_max(held, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that decoding (and unpacking) `bytes` held at any time, above the bytes themselves.
fn peak_of(mut bytes: BytesMut) -> usize {
    let before = HELD_BYTES.load(Ordering::Relaxed);
    PEAK_BYTES.store(before, Ordering::Relaxed);
    if let Ok(Some(Frame::Batch(batch))) = Frame::decode(&mut bytes) {
        drop(batch.unpack());
    }
    PEAK_BYTES.load(Ordering::Relaxed) - before
}

fn frame(kind: u8, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u32(body.len() as u32 + 1);
    bytes.put_u8(kind);
    bytes.extend_from_slice(body);
    bytes
}

fn batch(held: Vec<RelPath>, packs: Vec<Pack>) -> BytesMut {
    let (entries, cursor) = (Vec::new(), Cursor::default());
    let mut bytes = BytesMut::new();
    Frame::Batch(Batch { number: 1, entries, cursor, end: None, held, packs }).encode(&mut bytes);
    bytes
}

/// A varint as postcard writes it.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 128 {
        out.push(value as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A map of as many small counters as fit a frame.
fn endless_vector() -> Vec<u8> {
    let count = FRAME_BYTES_MAX as u64 / 6;
    let mut bytes = Vec::new();
    varint(count, &mut bytes);
    for replica in 0..count {
        varint(replica, &mut bytes);
        bytes.push(1);
    }
    bytes
}

#[test]
fn decoding_takes_a_small_multiple_of_the_frame() {
    const MIB: usize = 1 << 20;
    const ACK: u8 = 4;
    const ROWS: u8 = 6;

    // A length alone makes room for one frame, and one beyond the limit for nothing.
    assert!(peak_of(BytesMut::from(&(FRAME_BYTES_MAX as u32).to_be_bytes()[..])) < 17 * MIB);
    assert!(peak_of(BytesMut::from(&u32::MAX.to_be_bytes()[..])) < MIB);

    // Claims of a great many items behind a few bytes.
    for kind in 1..=10 {
        for body in [&[255; 64][..], &[255, 255, 255, 255, 15], &[0, 0, 0, 5, 255, 255, 255, 15, 1]]
        {
            assert!(peak_of(frame(kind, body)) < MIB, "{kind} {body:?}");
        }
    }

    // Items that take far more memory than bytes, by the million.
    let held = vec![RelPath::new("f").unwrap(); 4_000_000];
    let bytes = batch(held, Vec::new());
    assert!(peak_of(bytes) < MIB, "paths of a full pass");
    let ack = [&[1, 1][..], &endless_vector()].concat();
    assert!(peak_of(frame(ACK, &ack)) < 2 * MIB, "a vector in an Ack");
    let rows = [&[200, 1][..], &vec![1; FRAME_BYTES_MAX - 10]].concat();
    assert!(peak_of(frame(ROWS, &rows)) < MIB, "more rows than nodes");

    // A bomb: what a pack says it unpacks to is all that it gets.
    let bomb = Pack { raw_bytes: 5000, ..Pack::compress(vec![0; 5 << 20]) };
    assert_eq!(bomb.codec, PackCodec::Zstd);
    assert!(peak_of(batch(Vec::new(), vec![bomb])) < MIB, "a bomb");
    let raw = Pack::compress(vec![0; 5 << 20]);
    assert!(peak_of(batch(Vec::new(), vec![raw; 3])) < MIB, "more packs than may be unpacked");
}

use chainsync_core::{Dot, Entry, Kind, Record, ReplicaId, Stamp, Version, VersionVector};

use super::*;

/// A file in memory that can be opened again.
#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl StorageBackend for Memory {
    fn len(&self) -> BackendResult<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> BackendResult<()> {
        let offset = offset as usize;
        out.copy_from_slice(&lock(&self.0)[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> BackendResult<()> {
        lock(&self.0).resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> BackendResult<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> BackendResult<()> {
        let offset = offset as usize;
        lock(&self.0)[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn open(memory: &Memory) -> Result<Index, IndexError> {
    Index::open(Box::new(memory.clone()), true, Path::new("index.redb"))
}

fn with_schema(schema: u32) -> Memory {
    let memory = Memory::default();
    let index = open(&memory).unwrap();
    let transaction = index.database.begin_write().unwrap();
    let row = schema::encode(&schema);
    transaction.open_table(schema::META).unwrap().insert("schema", row.as_slice()).unwrap();
    transaction.commit().unwrap();
    memory
}

#[test]
fn an_index_of_another_layout_is_refused_and_not_touched() {
    for (schema, expected) in [(SCHEMA + 1, "newer"), (SCHEMA_OLDEST - 1, "older")] {
        let memory = with_schema(schema);
        let before = lock(&memory.0).clone();
        let error = open(&memory).err().unwrap().to_string();
        assert!(error.contains(&format!("{expected} chainsync")), "{error}");
        let versions = format!("schema {schema}, this one reads {SCHEMA_OLDEST} to {SCHEMA}");
        assert!(error.contains(&versions), "{error}");
        assert!(*lock(&memory.0) == before, "a refused index was written to");
    }
}

#[test]
fn an_index_of_this_layout_opens_again_with_what_was_in_it() {
    let memory = Memory::default();
    let index = open(&memory).unwrap();
    let mut writer = index.begin().unwrap();
    writer.state.root_mark = Some(7);
    writer.set_exclude(&["*.log".to_owned()]).unwrap();
    writer.commit(1, true).unwrap();
    drop(index);
    let index = open(&memory).unwrap();
    assert_eq!(index.state().root_mark, Some(7));
    assert_eq!(index.read().unwrap().exclude().unwrap(), Some(vec!["*.log".to_owned()]));
}

fn put_symlink(writer: &mut Writer, path: &str) {
    let dot = Dot { replica: ReplicaId(1), counter: 1 };
    let version =
        Version { stamp: Stamp::made(1, dot.replica), dot, past: VersionVector::default() };
    let path = RelPath::new(path).unwrap();
    let kind = Kind::Symlink { target: b"x".to_vec() };
    let entry = Entry { path: path.clone(), kind, version };
    writer.put_record(&path, Record::new(&entry, 1));
}

fn below(rows: &impl Rows, path: &str) -> Vec<String> {
    let found = rows.below(&RelPath::new(path).unwrap(), &mut |_| true).unwrap();
    found.into_iter().map(|(path, _)| path.to_string()).collect()
}

#[test]
fn what_is_below_a_path_is_found_in_a_commit_in_the_making() {
    let index = open(&Memory::default()).unwrap();
    let mut writer = index.begin().unwrap();
    let is_blocked =
        |writer: &Writer, path| writer.is_blocked(&RelPath::new(path).unwrap()).unwrap();
    for path in ["a/b", "a/b-/x", "a/b/c", "a/b.d"] {
        put_symlink(&mut writer, path);
    }
    assert_eq!(below(&writer, "a"), ["a/b", "a/b.d", "a/b/c", "a/b-/x"]);
    assert_eq!(below(&writer, "a/b"), ["a/b/c"]);
    assert_eq!(below(&writer, "a/b/c"), [""; 0]);
    assert_eq!(below(&writer, "a/b."), [""; 0]);
    assert!(is_blocked(&writer, "a/b/c"));
    assert!(!is_blocked(&writer, "a/b-/x"), "what is above has no record");
    writer.commit(1, true).unwrap();
    assert_eq!(below(&index.read().unwrap(), "a/b"), ["a/b/c"]);
    // What a commit has is found with what was there, and in directories that had none in them.
    let mut writer = index.begin().unwrap();
    put_symlink(&mut writer, "a/b/d/e");
    put_symlink(&mut writer, "f/g/h");
    assert_eq!(below(&writer, "a/b"), ["a/b/c", "a/b/d/e"]);
    assert_eq!(below(&writer, "f"), ["f/g/h"]);
    assert_eq!(below(&writer, "f/g"), ["f/g/h"]);
    assert!(is_blocked(&writer, "a/b/d/e"));
}

#[test]
fn directories_are_found_by_what_is_in_them() {
    let index = open(&Memory::default()).unwrap();
    let mut writer = index.begin().unwrap();
    for path in ["a", "b/c", "b/c/d/e", "b/c-/d", "b/c/d-/e", "b/c.d", "\u{1}/x", "ÿ/y/z"] {
        put_symlink(&mut writer, path);
    }
    writer.commit(1, true).unwrap();
    let reader = index.read().unwrap();
    let dirs_in = |dir: Option<&str>| -> Vec<String> {
        let dir = dir.map(|dir| RelPath::new(dir).unwrap());
        let found = reader.dirs_in(dir.as_ref()).unwrap();
        found.iter().map(ToString::to_string).collect()
    };
    assert_eq!(dirs_in(None).len(), 3, "{:?}", dirs_in(None));
    assert_eq!(dirs_in(Some("b")), ["b/c", "b/c-"]);
    assert_eq!(dirs_in(Some("b/c")), ["b/c/d", "b/c/d-"]);
    assert_eq!(dirs_in(Some("b/c/d")), [""; 0]);
}

//! Decoding of sequences and maps with a limit on their length.
//!
//! A few bytes of a frame can stand for much more memory (an empty path takes one byte there and
//! some sixty here), so a count is held against its limit before its items are made, not after.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// For `#[serde(deserialize_with)]`: at most `MAX` items.
pub(crate) fn vec<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Sequence::<T, MAX>(PhantomData))
}

/// For `#[serde(deserialize_with)]`: at most `MAX` items.
pub(crate) fn map<'de, D, K, V, const MAX: usize>(
    deserializer: D,
) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    deserializer.deserialize_map(Map::<K, V, MAX>(PhantomData))
}

struct Sequence<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Sequence<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let claimed = items.size_hint().unwrap_or(0);
        if claimed > MAX {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        // Not with the capacity claimed: items have to arrive before they take memory.
        let mut vec = Vec::new();
        while let Some(item) = items.next_element()? {
            if vec.len() == MAX {
                return Err(A::Error::invalid_length(MAX + 1, &self));
            }
            vec.push(item);
        }
        Ok(vec)
    }
}

struct Map<K, V, const MAX: usize>(PhantomData<(K, V)>);

impl<'de, K, V, const MAX: usize> Visitor<'de> for Map<K, V, MAX>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    type Value = BTreeMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX} items")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<BTreeMap<K, V>, A::Error> {
        let claimed = items.size_hint().unwrap_or(0);
        if claimed > MAX {
            return Err(A::Error::invalid_length(claimed, &self));
        }
        let mut map = BTreeMap::new();
        while let Some((key, value)) = items.next_entry()? {
            map.insert(key, value);
            if map.len() > MAX {
                return Err(A::Error::invalid_length(map.len(), &self));
            }
        }
        Ok(map)
    }
}

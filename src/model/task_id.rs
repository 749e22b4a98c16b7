use std::fmt;

use base64::Engine as _;
use uuid::{Builder, Uuid, Variant};

use super::{Partition, SORTED_BASE64};

/// A task's id: a UUID version 7 (RFC 9562) whose 12 bits of `rand_a` carry the partition, so that
/// every call by id finds its way without a lookup.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(Uuid);

impl TaskId {
    /// A fresh id in `partition`; `unix_ms` orders ids and decides nothing else.
    pub fn new(partition: Partition, unix_ms: u64) -> Self {
        let mut random: [u8; 10] = rand::random();
        let [high, low] = partition.number().to_be_bytes();
        random[0] = high;
        random[1] = low;
        Self(Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
    }

    /// Reads the wire form. Anything but a lower-case, hyphenated UUIDv7 is simply not a task.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
            return None;
        }
        Self::known(Uuid::try_parse(text).ok()?)
    }

    /// The form in Redis: 22 characters that sort as the id does.
    pub fn short(&self) -> String {
        SORTED_BASE64.encode(self.0.as_bytes())
    }

    /// Reads [`short`](Self::short).
    pub fn from_short(text: &str) -> Option<Self> {
        let bytes: [u8; 16] = SORTED_BASE64.decode(text).ok()?.try_into().ok()?;
        Self::known(Uuid::from_bytes(bytes))
    }

    fn known(id: Uuid) -> Option<Self> {
        (id.get_version_num() == 7 && id.get_variant() == Variant::RFC4122).then_some(Self(id))
    }

    /// Where the task lives.
    pub fn partition(&self) -> Partition {
        let bytes = self.0.as_bytes();
        Partition::new(u16::from_be_bytes([bytes[6] & 0x0f, bytes[7]]))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for TaskId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; 36];
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_partition_in_both_forms() {
        for number in [0, 1, 15, 255, 256, 1023] {
            let id = TaskId::new(Partition::new(number), 1_700_000_000_000);
            assert_eq!(id.partition().number(), number);
            assert_eq!(TaskId::parse(&id.to_string()), Some(id));
            assert_eq!(TaskId::from_short(&id.short()), Some(id));
            assert_eq!(id.short().len(), 22);
        }
    }

    #[test]
    fn short_ids_sort_as_the_ids_do() {
        let mut ids: Vec<TaskId> =
            (0..500).map(|ms| TaskId::new(Partition::new(3), 1_000 + ms * 7919)).collect();
        ids.sort_by_key(TaskId::short);
        assert!(ids.is_sorted());
    }

    #[test]
    fn what_is_not_a_lower_case_uuid_of_version_7_is_not_a_task() {
        let id = TaskId::new(Partition::new(1), 5);
        for text in [
            "",
            "x",
            &id.to_string().to_uppercase(),
            &id.to_string().replace('-', ""),
            "00000000-0000-0000-0000-000000000000",
            "c232ab00-9414-11ec-b3c8-9f68deced846",
            "{0}:b:0000000-0000-0000-0000-00000000",
        ] {
            assert_eq!(TaskId::parse(text), None, "{text}");
        }
    }
}

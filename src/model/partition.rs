use super::{QueueName, digest};

/// The number of a partition: one Redis hash slot that holds whole queues.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Partition(u16);

impl Partition {
    /// Names a partition; [`Partitions::knows`] says whether the store has it.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number, from 0.
    pub fn number(self) -> u16 {
        self.0
    }
}

/// The one module that says where things live. Fixed when the store is first used.
#[derive(Clone, Debug)]
pub struct Partitions {
    prefix: String,
    count: u16,
}

impl Partitions {
    /// A map of `count` (1..=1024) partitions under the key prefix.
    pub fn new(prefix: &str, count: u16) -> Self {
        assert!((1..=1024).contains(&count), "settings allow 1..=1024 partitions");
        Self { prefix: prefix.to_owned(), count }
    }

    /// How many there are.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Every partition, in order.
    pub fn all(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.count).map(Partition)
    }

    /// Whether the store has this partition. An id that names another one is not a task of ours.
    pub fn knows(&self, partition: Partition) -> bool {
        partition.0 < self.count
    }

    /// The root of a partition's keys, with the hash tag that keeps them in one slot.
    pub fn root(&self, partition: Partition) -> String {
        format!("{{{}:{}}}", self.prefix, partition.0)
    }

    /// The key that holds the layout's version and the number of partitions.
    pub fn meta_key(&self) -> String {
        format!("{{{}:meta}}", self.prefix)
    }

    /// The partition of a queue: the first eight bytes, big-endian, of the SHA-256 of `queue`, NUL,
    /// its name, NUL; modulo the number of partitions.
    pub fn of(&self, queue: &QueueName) -> Partition {
        self.hashed(&[b"queue", queue.as_str().as_bytes()])
    }

    /// The partition of the `shard`-th part of a queue that is spread over several. Shard 0 is
    /// where the queue lives when it is not spread.
    pub fn of_shard(&self, queue: &QueueName, shard: u16) -> Partition {
        Partition((self.of(queue).0 + shard) % self.count)
    }

    /// The partition of something else that is found by name, such as a rate limit's bucket.
    pub fn hashed(&self, parts: &[&[u8]]) -> Partition {
        let hash = u64::from_be_bytes(digest(parts));
        Partition(u16::try_from(hash % u64::from(self.count)).expect("count is a u16"))
    }
}

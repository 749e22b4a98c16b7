//! The few keys that Rust reads or writes directly, beside a script. `lua/lib/keys.lua` names them
//! all; a test holds the two equal.

use crate::model::{Partition, Partitions, QueueName, TaskId};

const BODY: &str = ":b:";
const DONE: &str = ":c:";
const PART: &str = ":s:";
const POLICY: &str = ":u:";

/// The packed body of a task.
pub fn body(partitions: &Partitions, id: &TaskId) -> String {
    format!("{}{BODY}{}", partitions.root(id.partition()), id.short())
}

/// How a task ended.
pub fn done(partitions: &Partitions, id: &TaskId) -> String {
    format!("{}{DONE}{}", partitions.root(id.partition()), id.short())
}

/// A large result, under a name of its own so that a refused submit cannot overwrite an accepted one.
pub fn part(partitions: &Partitions, id: &TaskId, name: &str) -> String {
    format!("{}{PART}{}:{name}", partitions.root(id.partition()), id.short())
}

/// The policy of a queue.
pub fn policy(partitions: &Partitions, partition: Partition, queue: &QueueName) -> String {
    format!("{}{POLICY}{}", partitions.root(partition), queue.as_str())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_keys_here_are_those_of_the_scripts() {
        let lua = include_str!("../../lua/lib/keys.lua");
        for (name, suffix) in [
            ("body", super::BODY),
            ("done", super::DONE),
            ("part", super::PART),
            ("policy", super::POLICY),
        ] {
            assert!(lua.contains(&format!("  {name} = \"{suffix}\",")), "{name}");
        }
    }
}

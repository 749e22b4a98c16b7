//! `invariants.lua` as a call.

use super::world::{DLQ_MS, World};

crate::script! {
    @from include_str!("invariants.lua"),
    /// Looks at every key of the partition.
    struct Invariants = "invariants", read, repeatable {
        once {}
        each { dlq_ms: u64 }
    } -> Faults { wrong: Vec<String> }
}

impl World {
    /// What is wrong with the partition.
    pub fn faults(&mut self) -> Vec<String> {
        self.db.one(Invariants { dlq_ms: DLQ_MS }).unwrap().wrong
    }
}

#[test]
fn the_invariants_see_an_index_without_a_body_and_a_body_without_an_index() {
    let mut world = World::new();
    let [first, second] = [1, 2].map(|n| super::world::id(n).short());
    world.enqueue(&super::world::New::task(1)).unwrap();
    assert_eq!(world.faults(), Vec::<String>::new());
    world.on_key::<()>("ZADD", ":d", &[b"5", second.as_bytes()]);
    assert_eq!(world.faults(), [format!("{second} is in delayed without a body")]);
    world.on_key::<()>("DEL", ":d", &[]);
    world.on_key::<()>("DEL", &format!(":r:{}:0", super::world::NAMES.queues[0].as_str()), &[]);
    let faults = world.faults();
    assert!(faults.contains(&format!("{first} has a body for ever and is in no index")));
    assert!(faults.iter().any(|fault| fault.contains("holds nothing, counted 1")), "{faults:?}");
}

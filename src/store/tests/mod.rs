//! Against a real Redis: each test has its own.

mod checking;
mod faults;
mod gathering;
mod leaving;
mod proxy;
mod waking;

use std::sync::Arc;
use std::time::Duration;

use crate::model::Partition;
use crate::store::Store;
use crate::store::testing::TestRedis;

const ADD: &str = "\
-- add: adds to a number; for tests.
--
-- KEYS  root  the partition
-- EACH  name  of the number
-- EACH  by    what to add
-- GIVES sum   the new number
-- FAILS NOT_FOUND
local call = require(\"lib.call\")
local function add(name, by)
  if name == \"missing\" then
    return \"NOT_FOUND\"
  end
  if name == \"poison\" then
    redis.call(\"INCRBY\", ROOT .. \":tries\", 1)
    error(\"this is poison for \" .. by)
  end
  return { redis.call(\"INCRBY\", ROOT .. name, by) }
end
return call.each(add)
";

crate::script! {
    @from ADD,
    /// Adds to a number, again if the answer gets lost.
    pub struct Add<'a> = "add", write, repeatable {
        once {}
        each { name: &'a str, by: i64 }
    } -> #[derive(PartialEq)] Added { sum: i64 }
}

crate::script! {
    @from ADD,
    /// Adds to a number, at most once.
    pub struct AddOnce<'a> = "add_once", write, once_only {
        once {}
        each { name: &'a str, by: i64 }
    } -> #[derive(PartialEq)] AddedOnce { sum: i64 }
}

const SHOUT: &str = "\
-- shout: puts a prefix in front; for tests.
--
-- KEYS  root    the partition
-- ARGV  prefix  what comes first
-- EACH  text    what comes second
-- GIVES text    both
local call = require(\"lib.call\")
local prefix = call.once()
local function shout(text)
  return { prefix .. text }
end
return call.each(shout)
";

crate::script! {
    @from SHOUT,
    /// Puts a prefix in front.
    pub struct Shout<'a> = "shout", read, repeatable {
        once { prefix: &'a str }
        each { text: String }
    } -> Shouted { text: String }
}

/// A name whose sum says how often a script ran.
const N: &str = ":n";

async fn sum(redis: &TestRedis) -> i64 {
    redis.command::<Option<i64>>("GET {test:0}:n").await.unwrap_or(0)
}

fn first() -> Partition {
    Partition::new(0)
}

fn add(name: &str, by: i64) -> Add<'_> {
    Add { name, by }
}

/// Runs many items at the same time and returns the answers in order.
async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    make: impl Fn(usize) -> F,
) -> Vec<T> {
    let tasks: Vec<_> = (0..count).map(|index| tokio::spawn(make(index))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// Waits for a fact, and fails when it does not come.
async fn eventually(what: &str, mut fact: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if fact().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

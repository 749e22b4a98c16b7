//! Each of these changes breaks a script, and the model, an interleaving or a refusal must notice.

use crate::store::direct::Change;

const fn change(file: &'static str, from: &'static str, to: &'static str) -> Change {
    Change { file, from, to }
}

/// What somebody could get wrong, file by file.
pub const MUTATIONS: &[Change] = &[
    // Who may speak for a task.
    change("lib/lease", "token ~= \"\" and token ~= of.token", "false"),
    change("lib/lease", "if worker ~= of.worker then", "if false then"),
    change("lib/lease", "kept.token == token and kept.worker == worker", "kept.token == token"),
    change(
        "lib/task",
        "if found and tenant and string.sub(found.queue, 1, 12) ~= tenant",
        "if false",
    ),
    change("submit", "and its_digest == digest", ""),
    change("submit", "and its_worker == worker", ""),
    change("submit", "(token == \"\" or token == its_token)", "true"),
    // How often it was delivered.
    change("claim", "kept.attempts + 1, kept.ends", "kept.attempts + 2, kept.ends"),
    change(
        "lib/retry",
        "due, of.attempt, of.ends, is_nack",
        "due, of.attempt + 1, of.ends, is_nack",
    ),
    change("lib/retry", "if of.attempt >= found.max then", "if of.attempt > found.max then"),
    change("abandon", "clock.now_ms, of.attempt - 1", "clock.now_ms, of.attempt"),
    change("redrive", "kept, now, 0, kept.ends", "kept, now, kept.attempts, kept.ends"),
    // Where it is.
    change("lib/lease", "  redis.call(\"ZREM\", key.leases, id)\n", ""),
    change("lib/lease", "  redis.call(\"HDEL\", key.held, id)\n", ""),
    change(
        "sweep",
        "      redis.call(\"ZREM\", key.delayed, id)\n      count.add",
        "      count.add",
    ),
    change(
        "cancel",
        "redis.call(\"ZREM\", key.delayed, id) == 1",
        "redis.call(\"ZSCORE\", key.delayed, id)",
    ),
    change("claim", "  redis.call(\"ZADD\", key.leases, number(now + lease_ms), id)\n", ""),
    change("claim", "    redis.call(\"HDEL\", key.attempted, id)\n", ""),
    change("submit", "  lease.release(id, found)\n", ""),
    change("redrive", "      redis.call(\"DEL\", key.done .. id)\n", ""),
    change("purge", "      redis.call(\"HDEL\", key.attempted, id)\n", ""),
    change("sweep", "      redis.call(\"HDEL\", key.attempted, id)\n", ""),
    // In which order.
    change("claim", "redis.call(\"RPOP\", key.ready", "redis.call(\"LPOP\", key.ready"),
    change("lib/ready", "redis.call(\"RPUSH\"", "redis.call(\"LPUSH\""),
    change("claim", "redis.call(\"ZADD\", waiting, \"XX\", now, command)", ""),
    // Cancelled and paused.
    change("claim", "elseif not (any_tombs and tomb.take(id)) then", "else"),
    change("claim", "if redis.call(\"SISMEMBER\", key.paused, queue) == 1 then", "if false then"),
    change("lib/tomb", "  redis.call(\"HINCRBY\", key.tombed, list, 1)\n", ""),
    // Counters and registries.
    change("lib/lease", "  count.add(found.queue, found.label, \"p\", -1)\n", ""),
    change("claim", "  count.add(found.queue, found.label, \"r\", -1)\n", ""),
    change("sweep", "      count.add(found.queue, found.label, \"d\", -1)\n", ""),
    change("lib/count", "redis.call(\"ZREM\", key.waiting .. tenant, command)", ""),
    change("lib/count", "redis.call(\"HDEL\", key.tenants, tenant)", ""),
    change("lib/count", "redis.call(\"ZREM\", key.of_label .. label, queue) == 0", "false"),
    change(
        "lib/dead",
        "  redis.call(\"ZADD\", key.graves, \"NX\", clock.now_ms + dlq_ms, found.queue)\n",
        "",
    ),
    // Time.
    change("heartbeat", "clock.now_ms + extend_ms", "clock.now_ms"),
    change("sweep", "key.leases, \"-inf\", now,", "key.leases, \"-inf\", now + 5000,"),
    change("enqueue", "if due > now then", "if due >= now then"),
    // Retention.
    change(
        "lib/finish",
        "    redis.call(\"PEXPIRE\", key.idempotency .. found.idempotency, keep)\n",
        "",
    ),
    change("lib/finish", "  redis.call(\"PEXPIRE\", key.body .. id, keep)\n", ""),
    change("lib/finish", "    redis.call(\"PEXPIRE\", key.history .. id, keep)\n", ""),
    change("redrive", "      redis.call(\"PERSIST\", key.body .. id)\n", ""),
    change(
        "redrive",
        "        redis.call(\"PERSIST\", key.idempotency .. found.idempotency)\n",
        "",
    ),
    // Idempotency and the outbox.
    change("enqueue", "    redis.call(\"SET\", idempotency, id .. digest)\n", ""),
    change("enqueue", "string.sub(known, 23) == digest and 0 or 1", "0"),
    change("lib/outbox", "    redis.call(\"ZADD\", key.outbox, \"LT\", due, destination)\n", ""),
    change(
        "lib/finish",
        "    redis.call(\"SETRANGE\", key.delivery .. name, \"1\", SUPERSEDED)\n",
        "",
    ),
    change("redrive", "superseded + finish.supersede(id, found, kept.ends)", "superseded"),
    change(
        "outbox_later",
        "if not due or tonumber(due) ~= tonumber(lease_ms) then",
        "if not due then",
    ),
    change(
        "outbox_dead",
        "if not due or tonumber(due) ~= tonumber(lease_ms) then",
        "if not due then",
    ),
    change("outbox_dead", "  lost.enter(delivery, of)\n", ""),
    change(
        "outbox_delivered",
        "  if outbox.leave(delivery, tenant, destination) == 0 then\n    return { 0 }\n  end\n",
        "",
    ),
    change("outbox_claim", "string.char(claims)", "string.char(0)"),
    change("outbox_claim", "next_due <= now and 1 or 0", "0"),
    change("outbox_claim", "if due and tonumber(due) <= now then", "if due then"),
    change("lib/outbox", "      redis.call(\"ZREM\", key.parked, destination)\n", ""),
];

#[test]
fn every_mutation_changes_a_text_that_stands_there_once() {
    for change in MUTATIONS {
        let text = crate::store::direct::source(change.file);
        assert_eq!(text.matches(change.from).count(), 1, "{change:?}");
    }
}

mod slow {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use proptest::test_runner::RngSeed;

    use super::MUTATIONS;
    use crate::lua_tests::world::World;
    use crate::lua_tests::{interleavings, model_test, outbox_model, refusals};

    /// Whether a play went wrong, in words or with a panic.
    fn noticed<T>(play: impl FnOnce() -> Result<T, String>) -> bool {
        !matches!(catch_unwind(AssertUnwindSafe(play)), Ok(Ok(_)))
    }

    #[test]
    fn every_mutation_of_the_scripts_is_noticed() {
        let mut missed = Vec::new();
        for change in MUTATIONS {
            let by_model = noticed(|| {
                model_test::play(World::changed(Some(*change)), 200, RngSeed::Fixed(1), 0)
            });
            let by_orders = noticed(|| interleavings::play(&mut World::changed(Some(*change)), 5));
            let by_refusals = noticed(|| refusals::play(&mut World::changed(Some(*change))));
            let by_outbox =
                !by_model && noticed(|| outbox_model::play(World::changed(Some(*change)), 200, 0));
            let mark = |noticed: bool| if noticed { "✓" } else { "·" };
            println!(
                "model {} orders {} refusals {} outbox {}  lua/{}.lua: {}",
                mark(by_model),
                mark(by_orders),
                mark(by_refusals),
                mark(by_outbox),
                change.file,
                change.from.trim()
            );
            if !by_model && !by_orders && !by_refusals && !by_outbox {
                missed.push(change);
            }
        }
        assert!(missed.is_empty(), "{missed:#?}");
    }
}

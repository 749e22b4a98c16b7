//! The whole database after each step, so that leftovers cannot hide. Fields that are 0 or empty
//! are left out; `#1` is the first task, `L0001` the first lease id.

use insta::assert_snapshot;

use super::world::{By, DLQ_MS, LEASE_MS, NAMES, New, World, by, id};
use crate::app::labels::Label;
use crate::app::rate_limit::Take;
use crate::tasks::read::Await;
use crate::topics::policy::{DeletePolicy, PutPolicy};

/// All that may stay when nothing is left to do: the registry of metric labels.
const NOTHING: &str = "";

#[test]
fn enqueue_makes_a_ready_task() {
    let mut world = World::new();
    let made = world.enqueue(&New { priority: 4, ..New::task(1) }).unwrap();
    assert_eq!((made.replayed, made.length, made.max), (false, 1, 5));
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 priority=4 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:4 #1
    "#);
}

#[test]
fn enqueue_again_with_the_same_id_changes_nothing() {
    let mut world = World::new();
    let first = world.enqueue(&New::task(1)).unwrap();
    let before = world.dump();
    world.advance(5_000);
    let again = world.enqueue(&New::task(1)).unwrap();
    assert_eq!((again.replayed, again.created_ms), (false, first.created_ms));
    assert_eq!(world.dump(), before);
}

#[test]
fn enqueue_makes_a_delayed_task() {
    let mut world = World::new();
    let made = world.enqueue(&New { delay_ms: 30_000, ..New::task(1) }).unwrap();
    assert_eq!((made.length, made.due_ms - made.created_ms), (0, 30_000));
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1030000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :d #1=1030000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1d=1 | acme/maild=1
    :q:acme mail=Mail
    "#);
}

#[test]
fn a_known_idempotency_key_answers_its_task_and_changes_nothing() {
    let mut world = World::new();
    let keyed = |n, payload| New { key: Some("k".into()), payload, ..New::task(n) };
    world.enqueue(&keyed(1, 0)).unwrap();
    let before = world.dump();
    let same = world.enqueue(&keyed(2, 0)).unwrap();
    let other = world.enqueue(&keyed(3, 1)).unwrap();
    assert_eq!((same.replayed, same.id, same.mismatch), (true, id(1), false));
    assert_eq!((other.replayed, other.id, other.mismatch), (true, id(1), true));
    assert_eq!(world.dump(), before);
    assert_snapshot!(before, @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 flags=1 queue=acme/mail key=k@acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :i:k@acme/mail #1digest0000000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    "#);
}

#[test]
fn a_task_with_a_webhook_carries_its_destination() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, ..New::task(1) }).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :e:acme mail=1000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    "#);
}

#[test]
fn a_body_stored_beside_the_call_becomes_the_tasks() {
    let mut world = World::new();
    let new = New { stored: true, ..New::task(1) };
    world.store_body(&new);
    assert_snapshot!(world.dump(), @":b:#1 ttl=20s {version 0}");
    world.enqueue(&new).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    "#);
    let before = world.dump();
    assert!(!world.enqueue(&new).unwrap().replayed);
    assert_eq!(world.dump(), before);
}

#[test]
fn a_body_stored_for_a_known_key_goes_and_a_repeat_answers_the_same() {
    let mut world = World::new();
    world.enqueue(&New { key: Some("k".into()), ..New::task(1) }).unwrap();
    let before = world.dump();
    let again = New { key: Some("k".into()), stored: true, ..New::task(2) };
    world.store_body(&again);
    for _ in 0..2 {
        let known = world.enqueue(&again).unwrap();
        assert_eq!((known.replayed, known.id), (true, id(1)));
        assert_eq!(world.dump(), before);
    }
}

#[test]
fn claim_takes_the_oldest_of_the_highest_priority() {
    let mut world = World::new();
    for (n, priority) in [(1, 0), (2, 7), (3, 7)] {
        world.enqueue(&New { priority, ..New::task(n) }).unwrap();
    }
    assert_eq!(world.take(1), 2);
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#2 {created=1000000 due=1000000 max=5 retention=60 priority=7 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#3 {created=1000000 due=1000000 max=5 retention=60 priority=7 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :f #2={claimed=1000000 attempt=1 token=L0001 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :l #2=1030000
    :n 1p=1 | 1r=2 | acme/mailp=1 | acme/mailr=2
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    :r:acme/mail:7 #3
    "#);
}

#[test]
fn heartbeat_moves_the_end_of_the_lease_and_nothing_else() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.advance(10_000);
    world.heartbeat(1, &by(1)).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :f #1={claimed=1000000 attempt=1 token=L0001 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :l #1=1040000
    :n 1p=1 | acme/mailp=1
    :q:acme mail=Mail
    "#);
}

#[test]
fn nack_delays_while_attempts_are_left() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    let nacked = world.nack(1, &by(1), 0, "smtp").unwrap();
    assert_eq!((nacked.outcome.as_str(), nacked.delay_ms), ("delayed", 10_000));
    let after = world.dump();
    assert!(world.nack(1, &by(1), 0, "smtp").unwrap().replayed);
    assert_eq!(world.dump(), after);
    assert_snapshot!(after, @r#"
    :a #1={history=1 label=1 at=1000000 visible=1010000 attempts=1 answer=1 delay=10000 token=L0001 worker=w}
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :d #1=1010000
    :h:#1 {claimed=1000000 ended=1000000 attempt=1 cause=1 to=2 worker=w reason=smtp}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1d=1 | acme/maild=1
    :q:acme mail=Mail
    "#);
}

#[test]
fn nack_of_the_last_attempt_buries_with_one_delivery() {
    let mut world = World::new();
    world.bury(&New { hooked: true, key: Some("k".into()), ..New::task(1) });
    let after = world.dump();
    assert!(world.nack(1, &by(901), 0, "smtp").unwrap().replayed);
    assert_eq!(world.dump(), after);
    assert_snapshot!(after, @r#"
    :a #1={history=1 label=1 at=1000000 attempts=1 ends=1 answer=2 token=L0901 worker=w}
    :b:#1 ttl=600s {created=1000000 due=1000000 max=1 retention=60 hooks=15 label=1 flags=1 queue=acme/mail key=k@acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=600s {kind=3 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0901 digest=none worker=w error=smtp}
    :h:#1 ttl=600s {claimed=1000000 ended=1000000 attempt=1 cause=1 to=3 worker=w reason=smtp}
    :i:k@acme/mail ttl=600s #1digest0000000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1x=1 | acme/mailx=1
    :o acme@x=1000000
    :o:acme@x #1_1=1000000
    :oa acme#1_1=1000000
    :q:acme mail=Mail
    :v:#1_1 {kind=3 ends=1 at=1000000 born=1000000 tenant=acme destination=acme@x}
    :x acme/mail=1600000
    :x:acme/mail #1=1000000
    "#);
}

#[test]
fn abandon_returns_to_the_head_and_takes_the_attempt_back() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.enqueue(&New::task(2)).unwrap();
    world.take(1);
    assert_eq!(world.abandon(1, &by(1), false).unwrap().length, 2);
    let after = world.dump();
    assert!(world.abandon(1, &by(1), false).unwrap().replayed);
    assert_eq!(world.dump(), after);
    assert_snapshot!(after, @r#"
    :a #1={history=1 label=1 at=1000000 visible=1000000 answer=3 token=L0001 worker=w}
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#2 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :h:#1 {claimed=1000000 ended=1000000 attempt=1 cause=3 to=1 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=2 | acme/mailr=2
    :q:acme mail=Mail
    :r:acme/mail:0 #2 | #1
    "#);
}

#[test]
fn an_undelivered_claim_goes_back_without_a_trace_in_the_history() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.abandon(1, &by(1), true).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :a #1={label=1 at=1000000 visible=1000000 answer=3 token=L0001 worker=w}
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    "#);
}

#[test]
fn submit_completes() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, key: Some("k".into()), ..New::task(1) }).unwrap();
    world.take(1);
    world.submit(1, &by(1), 1, 7, "").unwrap();
    let after = world.dump();
    assert!(world.submit(1, &by(1), 1, 7, "").unwrap().replayed);
    assert_eq!(world.dump(), after);
    assert_snapshot!(after, @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 flags=1 queue=acme/mail key=k@acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0001 digest=digest0000000007 worker=w}
    :i:k@acme/mail ttl=120s #1digest0000000000
    :o acme@x=1000000
    :o:acme@x #1_1=1000000
    :oa acme#1_1=1000000
    :v:#1_1 {kind=1 ends=1 at=1000000 born=1000000 tenant=acme destination=acme@x}
    "#);
}

#[test]
fn submit_fails_for_good_and_not_into_the_dlq() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.nack(1, &by(1), 0, "smtp").unwrap();
    world.advance(10_000);
    world.sweep();
    world.take(2);
    world.submit(1, &by(2), 2, 7, "").unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=60s {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :c:#1 ttl=60s {kind=2 ends=1 completed=1010000 claimed=1010000 attempts=2 token=L0002 digest=digest0000000007 worker=w error=no ink}
    :h:#1 ttl=60s {claimed=1000000 ended=1000000 attempt=1 cause=1 to=2 worker=w reason=smtp}
    "#);
}

#[test]
fn submit_keeps_a_large_result_as_long_as_the_task() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.store_part(1, "p");
    world.submit(1, &by(1), 1, 7, "p").unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=60s {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :c:#1 ttl=60s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0001 digest=digest0000000007 worker=w}
    :s:#1:p ttl=60s "large"
    "#);
}

#[test]
fn cancel_of_a_ready_task_leaves_no_tomb_at_the_ends_of_its_list() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, ..New::task(1) }).unwrap();
    world.cancel(1, 0).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=4 ends=1 completed=1000000 token=none digest=none error=CANCELLED}
    :o acme@x=1000000
    :o:acme@x #1_1=1000000
    :oa acme#1_1=1000000
    :v:#1_1 {kind=4 ends=1 at=1000000 born=1000000 tenant=acme destination=acme@x}
    "#);
}

#[test]
fn cancel_in_the_middle_leaves_a_tomb_that_claims_step_over() {
    let mut world = World::new();
    for n in 1..4 {
        world.enqueue(&New::task(n)).unwrap();
    }
    world.cancel(2, 0).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#2 ttl=60s {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#3 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :c:#2 ttl=60s {kind=4 ends=1 completed=1000000 token=none digest=none error=CANCELLED}
    :e:acme mail=1000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=2 | acme/mailr=2
    :q:acme mail=Mail
    :r:acme/mail:0 #3 | #2 | #1
    :t #2=acme/mail:0
    :tn acme/mail:0=1
    "#);
    let claimed = world.claim(0, &[0], "w", &[1, 2, 3]).unwrap();
    assert_eq!(claimed.tasks.iter().map(|t| t.id).collect::<Vec<_>>(), [id(1), id(3)]);
    assert!(!world.dump().contains(":t"), "{}", world.dump());
}

#[test]
fn cancel_of_a_delayed_task() {
    let mut world = World::new();
    world.enqueue(&New { delay_ms: 30_000, key: Some("k".into()), ..New::task(1) }).unwrap();
    world.cancel(1, 0).unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=60s {created=1000000 due=1030000 max=5 retention=60 label=1 flags=1 queue=acme/mail key=k@acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :c:#1 ttl=60s {kind=4 ends=1 completed=1000000 token=none digest=none error=CANCELLED}
    :i:k@acme/mail ttl=60s #1digest0000000000
    "#);
}

#[test]
fn sweep_brings_what_is_due_to_the_tail() {
    let mut world = World::new();
    world.enqueue(&New { delay_ms: 30_000, ..New::task(1) }).unwrap();
    world.advance(30_000);
    world.enqueue(&New::task(2)).unwrap();
    let swept = world.sweep();
    assert_eq!((swept.due, swept.woken.len(), swept.more), (1, 0, false));
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1030000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :b:#2 {created=1030000 due=1030000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :e:acme mail=1030000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=2 | acme/mailr=2
    :q:acme mail=Mail
    :r:acme/mail:0 #1 | #2
    "#);
}

#[test]
fn sweep_ends_an_expired_lease_as_a_nack_would() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.advance(LEASE_MS);
    let swept = world.sweep();
    assert_eq!((swept.expired[0].outcome.as_str(), swept.expired[0].attempt), ("delayed", 1));
    assert_snapshot!(world.dump(), @r#"
    :a #1={history=1 label=1 at=1030000 visible=1040000 attempts=1 delay=10000 token=L0001 worker=w}
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :d #1=1040000
    :h:#1 {claimed=1000000 ended=1030000 attempt=1 cause=2 to=2 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1d=1 | acme/maild=1
    :q:acme mail=Mail
    "#);
}

#[test]
fn sweep_buries_the_last_attempt() {
    let mut world = World::new();
    world.enqueue(&New { max: 1, hooked: true, ..New::task(1) }).unwrap();
    world.take(1);
    world.advance(LEASE_MS);
    assert_eq!(world.sweep().expired[0].outcome, "dead");
    assert_snapshot!(world.dump(), @r#"
    :a #1={history=1 label=1 at=1030000 attempts=1 ends=1 token=L0001 worker=w}
    :b:#1 ttl=600s {created=1000000 due=1000000 max=1 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=600s {kind=3 ends=1 completed=1030000 claimed=1000000 attempts=1 token=L0001 digest=none worker=w error=LEASE_EXPIRED}
    :h:#1 ttl=600s {claimed=1000000 ended=1030000 attempt=1 cause=2 to=3 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1x=1 | acme/mailx=1
    :o acme@x=1030000
    :o:acme@x #1_1=1030000
    :oa acme#1_1=1030000
    :q:acme mail=Mail
    :v:#1_1 {kind=3 ends=1 at=1030000 born=1030000 tenant=acme destination=acme@x}
    :x acme/mail=1630000
    :x:acme/mail #1=1030000
    "#);
}

#[test]
fn sweep_retires_the_dead_and_leaves_nothing() {
    let mut world = World::new();
    world.bury(&New { key: Some("k".into()), ..New::task(1) });
    world.advance(DLQ_MS);
    assert_eq!(world.sweep().retired, [1]);
    assert_eq!(world.dump(), NOTHING);
}

#[test]
fn redrive_brings_the_dead_back_and_withdraws_the_delivery() {
    let mut world = World::new();
    world.bury(&New { hooked: true, key: Some("k".into()), ..New::task(1) });
    let back = world.redrive(0, &[], 10).unwrap();
    assert_eq!((back.tasks.len(), back.superseded, back.length), (1, 1, 1));
    assert_snapshot!(world.dump(), @r#"
    :a #1={history=1 label=1 at=1000000 visible=1000000 ends=1 token=L0901 worker=w}
    :b:#1 {created=1000000 due=1000000 max=1 retention=60 hooks=15 label=1 flags=1 queue=acme/mail key=k@acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :e:acme mail=1000000
    :h:#1 {claimed=1000000 ended=1000000 attempt=1 cause=5 to=1} | {claimed=1000000 ended=1000000 attempt=1 cause=1 to=3 worker=w reason=smtp}
    :i:k@acme/mail #1digest0000000000
    :j acme=acme
    :jl:1 acme/mail=1000000
    :n 1r=1 | acme/mailr=1
    :q:acme mail=Mail
    :r:acme/mail:0 #1
    :v:#1_1 ttl=604800s {state=3 kind=3 ends=1 at=1000000 born=1000000 tenant=acme destination=acme@x}
    "#);
}

#[test]
fn a_second_end_is_the_second() {
    let mut world = World::new();
    world.bury(&New { hooked: true, ..New::task(1) });
    world.redrive(0, &[1], 0).unwrap();
    world.take(2);
    world.submit(1, &by(2), 1, 7, "").unwrap();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=1 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=1 ends=2 completed=1000000 claimed=1000000 attempts=1 token=L0002 digest=digest0000000007 worker=w}
    :h:#1 ttl=120s {claimed=1000000 ended=1000000 attempt=1 cause=5 to=1} | {claimed=1000000 ended=1000000 attempt=1 cause=1 to=3 worker=w reason=smtp}
    :o acme@x=1000000
    :o:acme@x #1_2=1000000
    :oa acme#1_2=1000000
    :v:#1_1 ttl=604800s {state=3 kind=3 ends=1 at=1000000 born=1000000 tenant=acme destination=acme@x}
    :v:#1_2 {kind=1 ends=2 at=1000000 born=1000000 tenant=acme destination=acme@x}
    "#);
}

#[test]
fn purge_leaves_nothing() {
    let mut world = World::new();
    world.bury(&New { key: Some("k".into()), ..New::task(1) });
    assert_eq!(world.purge(0, &[1], 0).unwrap().purged, [1]);
    assert_eq!(world.dump(), NOTHING);
}

#[test]
fn pause_registers_the_queue_and_resume_forgets_it() {
    let mut world = World::new();
    world.pause(0, true).unwrap();
    assert_snapshot!(world.dump(), @r"
    :j acme=acme
    :jl:1 acme/mail=1000000
    :p acme/mail
    :q:acme mail=Mail
    ");
    world.pause(0, false).unwrap();
    assert_eq!(world.dump(), NOTHING);
}

#[test]
fn a_wait_for_an_end_is_told_once_and_a_wait_that_ended_goes_with_the_sweep() {
    let mut world = World::new();
    let wait = |world: &mut World| {
        world.db.one(Await { id: &id(1), wait_ms: 5_000 }).unwrap();
    };
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    wait(&mut world);
    assert_snapshot!(world.dump(), @r#"
    :b:#1 {created=1000000 due=1000000 max=5 retention=60 label=1 queue=acme/mail 1:acme 2:Mail 3:TRACE {"p":0}}
    :f #1={claimed=1000000 attempt=1 token=L0001 worker=w}
    :j acme=acme
    :jl:1 acme/mail=1000000
    :l #1=1030000
    :n 1p=1 | acme/mailp=1
    :q:acme mail=Mail
    :y #1=1005000
    "#);
    assert!(world.submit(1, &by(1), 1, 7, "").unwrap().awaited);
    let told = world.dump();
    assert!(!told.contains(":y"), "{told}");
    wait(&mut world);
    world.advance(5_000);
    world.sweep();
    assert!(!world.dump().contains(":y"), "{}", world.dump());
}

#[test]
fn a_policy_counts_its_changes_and_goes() {
    let mut world = World::new();
    let queue = &NAMES.queues[0];
    let put = |text| PutPolicy { queue, max: 3, retention_s: 90, text };
    for (text, created, version) in [("{}", true, 1), ("{}", false, 1), ("{\"a\":1}", false, 2)] {
        let stored = world.db.one(put(text)).unwrap();
        assert_eq!((stored.created, stored.version), (created, version));
    }
    assert_snapshot!(world.dump(), @r#":u:acme/mail {max=3 retention=90 changes=2 rest="{\"a\":1}"}"#);
    let made = world.enqueue(&New::task(1)).unwrap();
    assert_eq!(made.max, 3);
    assert!(world.dump().contains("max=3 retention=90"), "{}", world.dump());
    world.cancel(1, 0).unwrap();
    world.advance(90_000);
    assert!(world.db.one(DeletePolicy { queue }).unwrap().deleted);
    assert!(!world.db.one(DeletePolicy { queue }).unwrap().deleted);
    assert_eq!(world.dump(), NOTHING);
}

#[test]
fn a_rate_limit_refuses_when_empty_and_leaves_no_key_when_full() {
    let mut world = World::new();
    let take = |cost| Take { bucket: "me", cost, per_minute: 60, burst: 10 };
    assert!(world.db.one(take(10)).unwrap().allowed);
    assert_snapshot!(world.dump(), @":k:me ttl=10s 1010000.000");
    let before = world.dump();
    let refused = world.db.one(take(1)).unwrap();
    assert_eq!((refused.allowed, refused.wait_ms), (false, 1_000));
    assert_eq!(world.dump(), before);
    assert!(world.db.one(take(0)).unwrap().allowed);
    world.advance(10_000);
    assert_eq!(world.dump(), NOTHING);
    assert!(world.db.one(take(0)).unwrap().allowed);
    assert_eq!(world.dump(), NOTHING);
}

#[test]
fn labels_are_given_once_and_up_to_a_cap() {
    let mut world = World::new();
    let label = |command, spelling| Label { command, spelling, cap: 2 };
    let given = [("a", "A"), ("b", "B"), ("c", "C"), ("a", "x")]
        .map(|(command, spelling)| world.db.one(label(command, spelling)).unwrap().label);
    assert_eq!(given, [1, 2, 0, 1]);
    assert_snapshot!(world.dump(), @":m 1=A | 2=B | a=1 | b=2");
}

/// Idle means free: whatever tasks went through, nothing is left of them.
#[test]
fn a_drained_queue_that_nobody_calls_leaves_no_key() {
    let mut world = World::new();
    for queue in 0..4 {
        for n in 0..6 {
            let key = (n % 2 == 0).then(|| format!("k{n}"));
            let (n, delay_ms) = (queue * 6 + n + 1, if n == 5 { 5_000 } else { 0 });
            let queue = usize::try_from(queue).unwrap();
            world.enqueue(&New { queue, key, max: 2, delay_ms, ..New::task(n) }).unwrap();
        }
        let queue = usize::try_from(queue).unwrap();
        let leases: Vec<u64> = (1..5).map(|n| 10 * queue as u64 + n).collect();
        let claimed = world.claim(queue / 2, &[queue], "w", &leases).unwrap();
        let held: Vec<_> = claimed.tasks.iter().collect();
        let whose = |token: &str| By { tenant: queue / 2, worker: "w", token: token.into() };
        let number = |at: usize| super::world::number(&held[at].id);
        world.submit(number(0), &whose(&held[0].token), 1, 1, "").unwrap();
        world.submit(number(1), &whose(&held[1].token), 2, 1, "").unwrap();
        world.abandon(number(2), &whose(&held[2].token), false).unwrap();
        world.nack(number(3), &whose(&held[3].token), 5_000, "smtp").unwrap();
        world.cancel(number(0) + 4, queue / 2).unwrap();
    }
    assert_eq!(world.faults(), Vec::<String>::new());
    for round in 0..8 {
        world.advance(LEASE_MS);
        world.sweep();
        let leases: Vec<u64> = (0..32).map(|n| 1_000 + round * 100 + n).collect();
        for tenant in 0..2 {
            world.claim(tenant, &[], "silent", &leases).unwrap();
        }
        assert_eq!(world.faults(), Vec::<String>::new());
    }
    for queue in 0..4 {
        world.purge(queue, &[], 2).unwrap();
    }
    world.advance(DLQ_MS);
    world.sweep();
    assert_eq!(world.dump(), NOTHING);
}

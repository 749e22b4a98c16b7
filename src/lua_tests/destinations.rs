//! What becomes of a destination.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::app::Destination;
use crate::model::delivery::{Delivery, OPERATOR_TAG};
use crate::model::{TaskId, TenantId};
use crate::store::Error;
use crate::webhooks::destinations::scripts::{
    Blamed, Cleared, Depth, Depths, Destinations, Failed, Given, Limit, Limited, Load, Look,
    Looked, Pace, Pause, Steered, Succeeded, Turns, Unpark, Unprobed,
};
use crate::webhooks::scripts::Claim;

use super::world::{HERE, NAMES, New, World};

/// How long a probe may take.
const GRANT_MS: u64 = 20_000;
const DISABLE_MS: u64 = 3_600_000;
/// The destination of operator events.
const OPS: &str = "opsopsopsopsopso";
const WEEK_MS: u64 = 604_800_000;

/// A destination of the tests.
pub struct At {
    pub id: String,
    pub tenant: Option<TenantId>,
}

fn at(id: &str, tenant: usize) -> At {
    At { id: id.to_owned(), tenant: Some(NAMES.tenants[tenant].clone()) }
}

pub static HERS: LazyLock<At> = LazyLock::new(|| at("aaaaaaaaaaaaaaaa", 0));
pub static HIS: LazyLock<At> = LazyLock::new(|| at("bbbbbbbbbbbbbbbb", 1));

/// His, called by her.
pub fn of_another() -> At {
    At { id: HIS.id.clone(), tenant: HERS.tenant.clone() }
}

impl At {
    fn tag(&self) -> &str {
        self.tenant.as_ref().map_or(OPERATOR_TAG, TenantId::tag)
    }
}

/// The name of a fresh delivery, and what it says.
fn event(says: &str) -> (String, Bytes) {
    let name = format!("{}_1", TaskId::new(HERE, 1_000).short());
    (name, Delivery::event(OPS, says.as_bytes()).into())
}

impl World {
    pub fn look(&mut self, at: &At) -> Looked {
        let look = Look {
            grant_ms: GRANT_MS,
            destination: &at.id,
            tenant: at.tenant.as_ref().map_or("", TenantId::as_str),
            tag: at.tag(),
            origin: "https://x.example",
        };
        self.db.one(look).unwrap()
    }

    pub fn fail_as(&mut self, at: &At, probe: bool, quiet_ms: u64) -> Result<Blamed, Error> {
        let (open, off) = (event("open"), event("disabled"));
        self.db.one(Failed {
            disable_ms: DISABLE_MS,
            destination: &at.id,
            class: "timeout",
            probe,
            quiet_ms,
            to: OPS,
            open: &open.0,
            says_open: open.1,
            off: &off.0,
            says_off: off.1,
        })
    }

    /// So often; what the last one changed.
    pub fn fail(&mut self, at: &At, times: usize) -> String {
        let mut changed = String::new();
        for _ in 0..times {
            changed = self.fail_as(at, false, 0).unwrap().changed;
        }
        changed
    }

    pub fn succeed(&mut self, at: &At) -> Result<Cleared, Error> {
        let (name, says) = event("recovered");
        self.db.one(Succeeded { destination: &at.id, to: OPS, event: &name, says })
    }

    pub fn unprobed(&mut self, at: &At, granted_ms: i64) -> Result<Given, Error> {
        self.db.one(Unprobed { destination: &at.id, granted_ms })
    }

    pub fn pace(&mut self, at: &At, wanted: u32) -> Turns {
        self.db.one(Pace { destination: &at.id, wanted }).unwrap()
    }

    pub fn pause_destination(&mut self, at: &At, paused: bool) -> Result<Steered, Error> {
        self.db.one(Pause { destination: &at.id, tag: at.tag(), paused })
    }

    pub fn limit(
        &mut self,
        at: &At,
        per_second: Option<f64>,
        concurrency: Option<u32>,
    ) -> Result<Limited, Error> {
        self.db.one(Limit { destination: &at.id, tag: at.tag(), per_second, concurrency })
    }

    pub fn depth(&mut self) -> Depth {
        self.db.one(Depths { most: 100 }).unwrap()
    }

    /// What operators were told, oldest first.
    fn operator_heard(&mut self) -> Vec<String> {
        let names: Vec<String> = self.on_key("ZRANGE", &format!(":o:{OPS}"), &[b"0", b"-1"]);
        let mut told = Vec::new();
        for name in names {
            let record: Vec<u8> = self.on_key("GET", &format!(":v:{name}"), &[]);
            told.push(String::from_utf8(Delivery::read(&record).unwrap().body.to_vec()).unwrap());
        }
        told.sort();
        told
    }

    fn all_is_well(&mut self) {
        assert_eq!(self.faults(), Vec::<String>::new());
    }
}

fn state(record: &Destination) -> (&str, u32, i64) {
    (&record.state, record.failures, record.until_ms)
}

#[test]
fn five_failures_in_a_row_open_a_destination_and_four_do_not() {
    let mut world = World::new();
    assert_eq!(state(&world.look(&HERS).record), ("", 0, 0));
    assert_eq!(world.fail(&HERS, 4), "");
    assert!(!world.succeed(&HERS).unwrap().recovered);
    assert_eq!(world.fail(&HERS, 4), "", "a success in between begins anew");
    assert_eq!(world.fail(&HERS, 1), "open");
    let now = world.now;
    assert_eq!(state(&world.look(&HERS).record), ("open", 5, now + 30_000));
    assert_eq!(world.operator_heard(), ["open"]);
    world.all_is_well();
}

#[test]
fn what_was_under_way_when_it_opened_changes_nothing_by_failing_too() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    let until = world.now + 30_000;
    world.advance(5_000);
    assert_eq!(world.fail(&HERS, 11), "");
    assert_eq!(state(&world.look(&HERS).record), ("open", 16, until));
    assert_eq!(world.operator_heard(), ["open"], "once per change");
}

#[test]
fn an_open_destination_is_tried_out_by_one_caller_in_the_fleet() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    world.advance(25_000);
    assert!(!world.look(&HERS).probe, "not yet");
    world.advance(5_000);
    assert!(world.look(&HERS).probe);
    let second = world.look(&HERS);
    assert!(!second.probe, "another node waits");
    assert_eq!(second.record.granted_ms, world.now + 20_000);
    world.all_is_well();
}

#[test]
fn a_probe_of_a_node_that_died_is_granted_again_after_its_time() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    world.advance(30_000);
    assert!(world.look(&HERS).probe);
    world.advance(GRANT_MS - 5_000);
    assert!(!world.look(&HERS).probe);
    world.advance(5_000);
    assert!(world.look(&HERS).probe);
}

#[test]
fn a_probe_that_was_not_sent_is_granted_again_at_once_but_only_by_whom_it_was_granted() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    world.advance(30_000);
    let first = world.look(&HERS);
    assert!(first.probe);
    let given = world.unprobed(&HERS, first.record.granted_ms).unwrap().record;
    assert_eq!((given.granted_ms, given.state.as_str()), (0, "open"));
    world.advance(1);
    assert!(world.look(&HERS).probe);
    world.unprobed(&HERS, first.record.granted_ms).unwrap();
    assert!(!world.look(&HERS).probe, "that one is another's");
    world.all_is_well();
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_ten_minutes() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let wait = world.look(&HERS).record.until_ms - world.now;
        waits.push(wait / 1000);
        world.advance(wait.unsigned_abs());
        assert!(world.look(&HERS).probe);
        world.fail_as(&HERS, true, 0).unwrap();
        assert_eq!(world.fail_as(&HERS, true, 0).unwrap().changed, "", "a late one is not another");
    }
    assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
    assert_eq!(world.operator_heard(), ["open"]);
}

#[test]
fn an_answer_closes_it_and_the_next_time_begins_with_thirty_seconds() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    world.advance(30_000);
    assert!(world.look(&HERS).probe);
    world.fail_as(&HERS, true, 0).unwrap();
    world.advance(60_000);
    assert!(world.look(&HERS).probe);
    assert!(world.succeed(&HERS).unwrap().recovered);
    assert!(!world.succeed(&HERS).unwrap().recovered, "once per change");
    assert_eq!(state(&world.look(&HERS).record), ("", 0, 0));
    assert_eq!(world.operator_heard(), ["open", "recovered"]);
    world.fail(&HERS, 5);
    assert_eq!(world.look(&HERS).record.until_ms, world.now + 30_000);
    world.all_is_well();
}

#[test]
fn no_success_for_long_and_twenty_failures_disable_it_until_it_is_resumed() {
    let mut world = World::new();
    world.look(&HERS);
    assert_eq!(world.fail(&HERS, 19), "");
    world.advance(DISABLE_MS);
    assert_eq!(world.fail(&HERS, 1), "disabled");
    assert_eq!(world.operator_heard(), ["disabled", "open"]);
    assert_eq!(world.fail(&HERS, 1), "");
    assert!(!world.succeed(&HERS).unwrap().recovered);
    assert_eq!(world.look(&HERS).record.state, "disabled", "only a person may say so");
    world.advance(2 * WEEK_MS);
    assert_eq!(world.look(&HERS).record.state, "disabled", "and no silence");
    world.all_is_well();
    assert_eq!(world.pause_destination(&HERS, false).unwrap().before, "disabled");
    assert_eq!(state(&world.look(&HERS).record), ("", 0, 0));
    world.all_is_well();
}

#[test]
fn long_failing_is_not_enough_nor_are_many_failures_at_once() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 1);
    world.advance(DISABLE_MS);
    assert_eq!(world.fail(&HERS, 1), "", "few");
    world.look(&HIS);
    assert_eq!(world.fail(&HIS, 40), "", "soon");
    assert_eq!(world.look(&HIS).record.state, "open");
}

#[test]
fn a_paused_destination_stays_so_whatever_happens_and_resume_forgets_what_failed() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail(&HERS, 5);
    assert_eq!(world.pause_destination(&HERS, true).unwrap().before, "open");
    assert_eq!(world.fail(&HERS, 9), "");
    world.succeed(&HERS).unwrap();
    assert_eq!(world.look(&HERS).record.state, "paused");
    world.advance(2 * WEEK_MS);
    assert_eq!(world.look(&HERS).record.state, "paused");
    world.all_is_well();
    world.fail(&HERS, 3);
    assert_eq!(world.pause_destination(&HERS, false).unwrap().before, "paused");
    assert_eq!(state(&world.look(&HERS).record), ("", 0, 0));
    world.all_is_well();
}

#[test]
fn another_tenants_destination_is_not_found_and_not_opened() {
    let mut world = World::new();
    world.look(&HERS);
    world.look(&HIS);
    world.fail(&HERS, 5);
    assert_eq!(world.look(&HIS).record.state, "");
    let taken = At { id: HERS.id.clone(), tenant: HIS.tenant.clone() };
    assert!(world.pause_destination(&taken, true).is_err());
    assert!(world.limit(&taken, Some(1.0), None).is_err());
    assert_eq!(world.look(&HERS).record.state, "open");
    let unseen = At { id: "cccccccccccccccc".into(), tenant: HERS.tenant.clone() };
    assert!(world.pause_destination(&unseen, true).is_err());
    world.all_is_well();
}

#[test]
fn a_receiver_that_asks_for_quiet_gets_it_in_every_state() {
    let mut world = World::new();
    world.look(&HERS);
    world.fail_as(&HERS, false, 90_000).unwrap();
    world.fail_as(&HERS, false, 10_000).unwrap();
    assert_eq!(state(&world.look(&HERS).record), ("", 2, world.now + 90_000));
    world.fail(&HERS, 3);
    world.advance(60_000);
    assert!(!world.look(&HERS).probe, "open for thirty seconds, and quiet for ninety");
    world.advance(30_000);
    assert!(world.look(&HERS).probe);
}

#[test]
fn idle_destinations_leave_nothing_behind_and_decided_ones_stay() {
    let mut world = World::new();
    world.look(&HERS);
    world.look(&HIS);
    world.limit(&HIS, None, Some(3)).unwrap();
    world.advance(WEEK_MS / 2);
    world.look(&HERS);
    world.advance(WEEK_MS / 2 + 5_000);
    let page = || Destinations { tag: "", state: "", after: "", most: 9 };
    assert_eq!(world.db.one(page()).unwrap().records.len(), 2, "it was seen again");
    world.advance(WEEK_MS);
    assert_eq!(world.db.one(page()).unwrap().records.len(), 1);
    world.all_is_well();
    world.look(&at("dddddddddddddddd", 1));
    let left: usize = world.on_key("ZCARD", ":zs", &[]);
    assert_eq!(left, 2, "the next that is new clears what is left of the old");
    assert_eq!(world.look(&HIS).record.concurrency, Some(3));
    world.limit(&HIS, None, None).unwrap();
    world.all_is_well();
    world.advance(WEEK_MS + 5_000);
    world.look(&HERS);
    assert_eq!(world.depth().states, [1, 0, 0, 0]);
}

#[test]
fn pages_go_by_ids_and_show_only_what_is_asked_for() {
    let mut world = World::new();
    for id in ["eeeeeeeeeeeeeeee", "cccccccccccccccc", "dddddddddddddddd"] {
        world.look(&at(id, 0));
    }
    world.look(&HIS);
    world.fail(&at("dddddddddddddddd", 0), 5);
    let hers = NAMES.tenants[0].tag();
    let mut page = |tag: &str, state: &str, after: &str, most: u64| {
        let found = world.db.one(Destinations { tag, state, after, most }).unwrap();
        let ids: String = found.records.iter().map(|record| &record.id[..1]).collect();
        (ids, found.more)
    };
    assert_eq!(page(hers, "", "", 2), ("cd".into(), true));
    assert_eq!(page(hers, "", "dddddddddddddddd", 2), ("e".into(), false));
    assert_eq!(page("", "", "", 9), ("bcde".into(), false));
    assert_eq!(page(hers, "open", "", 9), ("d".into(), false));
    assert_eq!(page("", "active", "", 9), ("bce".into(), false));
    assert_eq!(page(hers, "disabled", "", 9), (String::new(), false));
}

#[test]
fn turns_of_a_rate_are_spread_and_a_second_is_handed_out_ahead() {
    let mut world = World::new();
    world.look(&HERS);
    assert_eq!(world.pace(&HERS, 3).delays_ms, [0, 0, 0], "without a rate all may go");
    world.limit(&HERS, Some(4.0), None).unwrap();
    let first = world.pace(&HERS, 20);
    assert_eq!(first.delays_ms, [0, 0, 250, 500, 750, 1000], "one that is late by at most 250 ms");
    assert_eq!(first.wait_ms, 750);
    assert_eq!(world.pace(&HERS, 1).delays_ms, [0_u64; 0], "the second is used up");
    world.advance(750);
    assert_eq!(world.pace(&HERS, 9).delays_ms, [500, 750, 1000]);
    world.limit(&HERS, Some(0.1), None).unwrap();
    world.advance(60_000);
    assert_eq!(world.pace(&HERS, 2).delays_ms, [0]);
    assert_eq!(world.pace(&HERS, 2).wait_ms, 9_500 - 250, "half a second before the next turn");
    world.limit(&HERS, Some(100.0), None).unwrap();
    assert_eq!(world.pace(&HERS, 500).delays_ms.len(), 126, "a lower rate holds up nothing");
    world.limit(&HERS, Some(100.0), Some(5)).unwrap();
    assert!(world.pace(&HERS, 1).delays_ms.is_empty(), "to set it again gives nothing away");
    world.all_is_well();
}

#[test]
fn nobody_gets_more_than_the_rate_however_many_ask() {
    let mut world = World::new();
    world.look(&HERS);
    world.limit(&HERS, Some(50.0), None).unwrap();
    let (mut sent, seconds) = (0, 60);
    for _ in 0..seconds * 10 {
        for _node in 0..3 {
            sent += world.pace(&HERS, 8).delays_ms.len();
        }
        world.advance(100);
    }
    let most = 50 * (seconds + 2);
    assert!((50 * seconds..=most).contains(&sent), "{sent} in {seconds} s");
}

/// A claim by a node that believes that these are to be left alone.
fn claim(parked: &str) -> Claim<'_> {
    Claim { lease_ms: 60_000, most: 8, room: "", parked, aged_ms: 0 }
}

#[test]
fn a_node_that_does_not_know_yet_parks_what_was_resumed_for_a_moment_only() {
    let mut world = World::new();
    world.bury(&New { hooked: true, ..New::task(1) });
    let destination: Vec<String> = world.on_key("ZRANGE", ":o", &[b"0", b"-1"]);
    let unpark = || Unpark { destination: &destination[0] };
    assert!(!world.db.one(unpark()).unwrap().parked, "it is looked at already");
    // What was seen before serves for two seconds.
    for _ in 0..4 {
        let parked = format!("{}{:013}", destination[0], world.now + 30_000);
        assert!(world.db.one(claim(&parked)).unwrap().claimed.is_empty());
        assert_eq!(world.depth().parked, 1);
        world.advance(500);
    }
    assert_eq!(world.db.one(claim("")).unwrap().claimed.len(), 1);
    world.all_is_well();
    // Afterwards what a node knows is true again.
    world.advance(60_000);
    let parked = format!("{}{:013}", destination[0], world.now + 30_000);
    assert!(world.db.one(claim(&parked)).unwrap().claimed.is_empty());
    world.advance(29_000);
    assert!(world.db.one(claim("")).unwrap().claimed.is_empty());
    world.advance(1_000);
    assert_eq!(world.db.one(claim("")).unwrap().claimed.len(), 1);
}

#[test]
fn a_park_ends_at_once_when_somebody_says_so() {
    let mut world = World::new();
    world.bury(&New { hooked: true, ..New::task(1) });
    let destination: Vec<String> = world.on_key("ZRANGE", ":o", &[b"0", b"-1"]);
    let parked = format!("{}{:013}", destination[0], world.now + 20_000);
    let load = || Load { destinations: &destination[0] };
    assert!(world.db.one(claim(&parked)).unwrap().claimed.is_empty());
    assert_eq!((world.depth().pending, world.depth().parked), (0, 1));
    assert_eq!(world.depth().oldest_ms, 0, "waiting for a receiver is not our lateness");
    assert!(world.db.one(Unpark { destination: &destination[0] }).unwrap().parked);
    assert!(!world.db.one(Unpark { destination: &destination[0] }).unwrap().parked);
    world.all_is_well();
    world.advance(5_000);
    let depth = world.depth();
    assert_eq!((depth.pending, depth.parked, depth.oldest_ms), (1, 0, 5_000));
    assert_eq!(world.db.one(load()).unwrap().pending, [1]);
    assert_eq!(world.db.one(claim("")).unwrap().claimed.len(), 1);
    assert_eq!(world.depth().oldest_ms, 0, "it is under way");
}

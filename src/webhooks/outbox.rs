//! The outbox worker of a node: claims what is due, as much as there is room for, and has it sent.
//!
//! What is due is in the store. Here is only what is under way: how many deliveries, and how many of
//! them to each destination, so that one that hangs takes its own share of the room and no more. A
//! destination that is quick has as many again claimed beside those being sent, so that it need not
//! wait for the store between two deliveries.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::app::{App, Todo};
use crate::model::Partition;
use crate::store;
use crate::telemetry::Waits;
use crate::telemetry::metrics::LoopKind;
use crate::telemetry::waits::{Point, Waiting};

use super::carrier;
use super::destinations::Destinations;
use super::scripts::{Claim, Claimed, Turn};

/// Most deliveries of one claim.
const MOST: usize = 64;
/// Claims under way at once: each may find the same destination.
const CLAIMS: usize = 2;
/// Most deliveries that a destination gives in one claim.
const TURN: usize = 8;
/// Longer than the attempt, so that its outcome is written while the lease lasts.
const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// An attempt shorter than this is a quick one.
const QUICK: Duration = Duration::from_millis(50);
/// How long a delivery that is claimed waits to be sent.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often other nodes are asked for help.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// The wait after a claim that failed.
const STORE_AWAY: Duration = Duration::from_millis(500);

/// Delivers until told to stop; then what is under way comes to its end.
pub async fn run(app: App, stop: CancellationToken) {
    let (freed, mut free) = mpsc::unbounded_channel();
    let (claims, mut answers) = mpsc::unbounded_channel();
    let mut work = Work {
        room: app.settings.webhook.max_concurrency,
        app,
        freed,
        claims,
        claiming: 0,
        todo: VecDeque::new(),
        lines: HashMap::new(),
        waiting: HashMap::new(),
        parked: HashSet::new(),
        tasks: JoinSet::new(),
        asked: Instant::now(),
        no_room: None,
        no_claim: None,
    };
    let _listening = work.app.store.listen_to_fleet();
    loop {
        work.claim_all();
        let ask_at = work.ask_for_help(false);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(slot) = free.recv() => {
                work.freed(&slot);
                while let Ok(slot) = free.try_recv() {
                    work.freed(&slot);
                }
            }
            Some(answer) = answers.recv() => work.answered(answer),
            todo = work.app.outbox.next() => {
                for (partition, todo) in todo {
                    work.look_at(partition, todo);
                }
            }
            Some(_) = work.tasks.join_next() => {}
            () = sleep_until(ask_at.unwrap_or(work.asked)), if ask_at.is_some() => {}
        }
    }
    work.ask_for_help(true);
    // What is claimed is sent, as far as there is time: its leases say so to the others.
    while work.claiming > 0 {
        let Some(answer) = answers.recv().await else { break };
        work.answered(answer);
    }
    while work.tasks.join_next().await.is_some() {}
}

/// What one claim brought.
struct Answer {
    partition: Partition,
    todo: Todo,
    reserved: usize,
    turn: Result<(Turn, Instant), store::Error>,
}

struct Work {
    app: App,
    /// Deliveries that may still begin.
    room: usize,
    freed: mpsc::UnboundedSender<Freed>,
    claims: mpsc::UnboundedSender<Answer>,
    /// Claims under way.
    claiming: usize,
    /// Partitions to look at, each once.
    todo: VecDeque<(Partition, Todo)>,
    /// Destinations that have deliveries under way.
    lines: HashMap<String, Line>,
    /// Destinations without room, and where more waits for them.
    waiting: HashMap<String, NoRoom>,
    /// Destinations that were just found to be left alone.
    parked: HashSet<String>,
    tasks: JoinSet<()>,
    /// When others were last asked for help.
    asked: Instant,
    /// Something is due, and this node has no room.
    no_room: Option<Waiting>,
    /// Something may be due, and all claims are under way.
    no_claim: Option<Waiting>,
}

/// Where more waits for a destination without room.
struct NoRoom {
    partitions: VecDeque<u16>,
    waiting: Waiting,
}

impl Work {
    fn look_at(&mut self, partition: Partition, todo: Todo) {
        match self.todo.iter_mut().find(|(known, _)| *known == partition) {
            Some((_, known)) => known.merge(todo),
            None => self.todo.push_back((partition, todo)),
        }
    }

    /// A delivery has ended. Others wait for half of the room to be free, so that they are claimed
    /// by several and not one by one.
    fn freed(&mut self, Freed { destination, took, parked }: &Freed) {
        self.room += 1;
        if *parked {
            self.parked.insert(destination.clone());
        }
        let most = self.most(destination);
        let Some(line) = self.lines.get_mut(destination) else { return };
        line.claimed -= 1;
        if let Some(took) = took {
            line.is_quick = *took < QUICK;
        }
        let (left, half) = (line.claimed, line.may_claim(most) / 2);
        if left == 0 {
            self.lines.remove(destination);
        }
        if left > half {
            return;
        }
        let Some(NoRoom { mut partitions, waiting }) = self.waiting.remove(destination) else {
            return;
        };
        let wakes = if left == 0 { partitions.len() } else { CLAIMS.min(partitions.len()) };
        for partition in partitions.drain(..wakes) {
            self.look_at(Partition::new(partition), Todo::default());
        }
        if !partitions.is_empty() {
            self.waiting.insert(destination.clone(), NoRoom { partitions, waiting });
        }
    }

    /// Claims while there is room and something to look at, and notes what the rest waits for.
    fn claim_all(&mut self) {
        self.claim_what_fits();
        let waits = self.app.metrics.waits();
        let rest = !self.todo.is_empty();
        // Room that is reserved for claims under way comes back with them.
        waits.keep(&mut self.no_room, Point::WebhookSlot, rest && self.claiming == 0);
        waits.keep(&mut self.no_claim, Point::OutboxClaim, rest && self.claiming > 0);
    }

    fn claim_what_fits(&mut self) {
        while self.claiming < CLAIMS && self.room > 0 {
            let Some((partition, todo)) = self.todo.pop_front() else { return };
            let reserved = self.room.min(MOST);
            self.room -= reserved;
            self.claiming += 1;
            let (app, claims) = (self.app.clone(), self.claims.clone());
            let (shares, parked) = (self.shares(), self.parked());
            self.tasks.spawn(async move {
                let turn = claim(&app, partition, todo, reserved, &shares, &parked).await;
                let _ = claims.send(Answer { partition, todo, reserved, turn });
            });
        }
    }

    /// Without room here, what this node alone may know of is handed to the others. When to do so,
    /// if it is too soon.
    fn ask_for_help(&mut self, at_once: bool) -> Option<Instant> {
        let has_room = self.room > 0 && !at_once;
        if has_room || !self.todo.iter().any(|(_, todo)| todo.own) {
            return None;
        }
        let ask_at = self.asked + ASK_EVERY;
        if !at_once && ask_at > Instant::now() {
            return Some(ask_at);
        }
        self.asked = Instant::now();
        for (partition, todo) in self.todo.iter_mut().filter(|(_, todo)| todo.own) {
            todo.own = false;
            self.app.ask_for_help(*partition);
        }
        None
    }

    /// How much each destination that has deliveries under way may get in one claim, as the script
    /// takes it. The claims under way share what is left.
    fn shares(&self) -> String {
        let mut shares = String::with_capacity(18 * self.lines.len());
        for (destination, line) in &self.lines {
            let left = line.may_claim(self.most(destination)).saturating_sub(line.claimed);
            let share = (left / CLAIMS).max(left.min(1));
            if share < TURN {
                write!(shares, "{destination}{share:02}").expect("text takes text");
            }
        }
        shares
    }

    /// Most deliveries under way to a destination: its own limit, else the setting.
    fn most(&self, destination: &str) -> usize {
        let own = self.app.destinations.place(destination).last();
        let own = own.and_then(|sight| sight.record.concurrency);
        own.map_or(self.app.settings.webhook.max_concurrency_per_host, |most| {
            usize::try_from(most).unwrap_or(usize::MAX)
        })
    }

    /// Destinations to be left alone, as the script takes them, by what was seen just now.
    fn parked(&mut self) -> String {
        let destinations = Destinations::of(&self.app);
        let mut parked = String::with_capacity(29 * self.parked.len());
        self.parked.retain(|destination| {
            let Some(until_ms) = destinations.waits(destination) else { return false };
            write!(parked, "{destination}{until_ms:013}").expect("text takes text");
            true
        });
        parked
    }

    fn answered(&mut self, answer: Answer) {
        let Answer { partition, todo, reserved, turn } = answer;
        self.claiming -= 1;
        self.room += reserved;
        let (turn, at) = match turn {
            Ok(turn) => turn,
            Err(error) => {
                // The sweep finds it again; a store that is away says so itself.
                if !error.is_passing() {
                    self.app.metrics.loop_failed(LoopKind::Outbox, &error.to_string());
                }
                let (app, later) = (self.app.clone(), todo);
                self.tasks.spawn(async move {
                    tokio::time::sleep(STORE_AWAY).await;
                    app.outbox.nudge(partition, later.aged);
                });
                return;
            }
        };
        let now = Duration::from_millis(turn.now_ms.unsigned_abs());
        self.app.metrics.outbox_last_success.set(now.as_secs_f64());
        for destination in turn.busy {
            // Room may have come free since the claim was sent; then nobody would look again.
            match self.lines.contains_key(&destination) {
                true => {
                    let no_room = || NoRoom {
                        partitions: VecDeque::new(),
                        waiting: self.app.metrics.waits().begin(Point::WebhookHostSlot),
                    };
                    let waiting = self.waiting.entry(destination).or_insert_with(no_room);
                    if !waiting.partitions.contains(&partition.number()) {
                        waiting.partitions.push_back(partition.number());
                    }
                }
                false => self.look_at(partition, Todo::default()),
            }
        }
        let more = Todo { aged: todo.aged && turn.more, own: false };
        // Old ones were asked for first; whether others are due is not known yet.
        if turn.more || todo.aged {
            self.look_at(partition, more);
        }
        self.carry(turn.claimed, turn.now_ms, at);
    }

    /// Hands deliveries out, by destination.
    fn carry(&mut self, claimed: Vec<Claimed>, now_ms: i64, at: Instant) {
        let mut by_destination: HashMap<String, Vec<Claimed>> = HashMap::new();
        for claimed in claimed {
            by_destination.entry(claimed.destination.clone()).or_default().push(claimed);
        }
        for (destination, mut claimed) in by_destination {
            let most = self.most(&destination);
            let line = self.lines.entry(destination.clone()).or_insert_with(|| Line::new(most));
            line.seat(most);
            let fits = line.may_claim(most).saturating_sub(line.claimed);
            // Claims that were under way together found more than fits: the rest goes back.
            let over = claimed.split_off(fits.min(claimed.len()));
            line.claimed += claimed.len() + over.len();
            self.room = self.room.saturating_sub(claimed.len() + over.len());
            let slot = || Slot {
                seats: line.seats.clone(),
                seat: None,
                waits: self.app.metrics.waits().clone(),
                freed: Freed { destination: destination.clone(), ..Freed::default() },
                to: self.freed.clone(),
            };
            let claimed: Vec<_> = claimed.into_iter().map(|one| (one, slot())).collect();
            let over: Vec<_> = over.into_iter().map(|one| (one, slot())).collect();
            let app = self.app.clone();
            self.tasks.spawn(async move {
                let back = carrier::give_back(&app, over, now_ms, at);
                tokio::join!(carrier::carry(&app, claimed, now_ms, at), back);
            });
        }
    }
}

/// A destination that has deliveries under way.
struct Line {
    /// Deliveries that this node holds.
    claimed: usize,
    /// Room for those that are being sent.
    seats: Arc<Semaphore>,
    /// How many seats there are.
    most: usize,
    /// Whether the last attempt took so little that some more may be claimed ahead.
    is_quick: bool,
}

impl Line {
    fn new(most: usize) -> Self {
        Self { claimed: 0, seats: Arc::new(Semaphore::new(most)), most, is_quick: false }
    }

    fn may_claim(&self, most: usize) -> usize {
        if self.is_quick { 2 * most } else { most }
    }

    /// Has so many seats from now on; those that are taken go when they are free.
    fn seat(&mut self, most: usize) {
        if most > self.most {
            self.seats.add_permits(most - self.most);
            self.most = most;
        } else {
            self.most -= self.seats.forget_permits(self.most - most);
        }
    }
}

/// Room for one delivery; it is free again when this is dropped, also by a panic.
pub(super) struct Slot {
    seats: Arc<Semaphore>,
    seat: Option<OwnedSemaphorePermit>,
    waits: Waits,
    freed: Freed,
    to: mpsc::UnboundedSender<Freed>,
}

/// Room that is free again.
#[derive(Default)]
struct Freed {
    destination: String,
    /// How long the attempt took, if one was made.
    took: Option<Duration>,
    /// The destination is to be left alone.
    parked: bool,
}

impl Slot {
    /// Waits for room to send. `None` when it did not come soon enough: the lease goes on meanwhile.
    pub(super) async fn sit_down(mut self) -> Option<Self> {
        self.seat = match self.seats.clone().try_acquire_owned() {
            Ok(seat) => Some(seat),
            Err(_) => {
                let _waiting = self.waits.begin(Point::WebhookHostSlot);
                Some(timeout(PATIENCE, self.seats.clone().acquire_owned()).await.ok()?.ok()?)
            }
        };
        Some(self)
    }

    /// The attempt took so long.
    pub(super) fn took(mut self, took: Duration) {
        self.freed.took = Some(took);
    }

    /// Says that the destination is to be left alone.
    pub(super) fn park(&mut self) {
        self.freed.parked = true;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.seat = None;
        let _ = self.to.send(std::mem::take(&mut self.freed));
    }
}

async fn claim(
    app: &App,
    partition: Partition,
    todo: Todo,
    most: usize,
    room: &str,
    parked: &str,
) -> Result<(Turn, Instant), store::Error> {
    let lease = app.settings.webhook.timeout + LEASE_MARGIN;
    let claim = Claim {
        lease_ms: u64::try_from(lease.as_millis()).expect("settings bound it"),
        most: most as u64,
        room,
        parked,
        aged_ms: if todo.aged { app.rules().age_ms } else { 0 },
    };
    let turn = app.store.run(partition, claim).await?;
    Ok((turn, Instant::now()))
}

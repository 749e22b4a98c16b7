//! One connection that restores itself.
//!
//! A keeper task owns the state; lanes read it and report what broke. There is one dial at a time,
//! and while it fails the link is down: calls are refused at once, and the dial is the only probe.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::connect::Primary;
use crate::telemetry::log::Every;

/// The longest pause before the second dial; it doubles up to [`LONGEST_PAUSE`]. Each pause is
/// drawn from zero up, so that a fleet comes back spread out.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between dials.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that broke sooner counts as a failed dial, or a replica would be dialled in a loop.
const SETTLED: Duration = Duration::from_secs(1);

/// A connection that breaks again and again says so once per so long.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Where a link stands.
#[derive(Clone)]
pub(super) enum State {
    /// The first dial, or the first one after a loss, is under way: calls wait for its outcome.
    Dialing,
    /// Calls can be sent.
    Up(Live),
    /// The last dial failed: calls are refused.
    Down,
}

/// A connection, and which one it is.
#[derive(Clone)]
pub(super) struct Live {
    pub connection: MultiplexedConnection,
    /// Counts the connections of the link, so that a late report does not break the next one.
    pub number: u64,
}

/// Why a connection is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// It ended. The next dial will likely succeed.
    Lost,
    /// It stays silent.
    Silent,
    /// Redis answers that it is loading, or a replica.
    Unready,
}

/// A handle to a link. The link ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    down: Arc<AtomicBool>,
    reports: mpsc::UnboundedSender<(u64, Broken)>,
}

impl Link {
    /// Starts the link. `pushed` receives what Redis says unasked.
    pub(super) fn start(
        name: &'static str,
        primary: Primary,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Self {
        let (states, state) = watch::channel(State::Dialing);
        let (reports, broken) = mpsc::unbounded_channel();
        let down = Arc::new(AtomicBool::new(false));
        let keeper = Keeper {
            name,
            primary,
            states,
            down: down.clone(),
            broken,
            reports: reports.clone(),
            pushed: Arc::new(pushed),
            is_lost: false,
            lost: Every::new(SAID_AGAIN),
        };
        tokio::spawn(keeper.run());
        Self { state, down, reports }
    }

    /// Whether calls would be refused. Cheap: asked before every call.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether calls can be sent right now.
    pub(super) fn is_up(&self) -> bool {
        matches!(&*self.state.borrow(), State::Up(_))
    }

    /// The state now; [`Self::changed`] returns when it is another.
    pub(super) fn state(&mut self) -> State {
        self.state.borrow_and_update().clone()
    }

    /// Whether there is a state that [`Self::state`] has not returned yet. Cheap.
    pub(super) fn has_changed(&self) -> bool {
        self.state.has_changed().unwrap_or(false)
    }

    /// Waits for a state that [`Self::state`] has not returned yet. False when the link has ended.
    pub(super) async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok()
    }

    /// Waits until calls can be sent.
    pub(super) async fn up(&self) {
        // The error says that the link has ended, and then nobody will wait for long.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Up(_))).await;
    }

    /// Waits until a connection with another number is up; its number.
    pub(super) async fn another(&self, than: u64) -> u64 {
        let number_of = |state: &State| match state {
            State::Up(live) if live.number != than => Some(live.number),
            _ => None,
        };
        let mut state = self.state.clone();
        loop {
            let number = number_of(&state.borrow_and_update());
            match number {
                Some(number) => return number,
                None if state.changed().await.is_ok() => {}
                // The link has ended: there will be none.
                None => std::future::pending().await,
            }
        }
    }

    /// Reports that a connection is of no more use.
    pub(super) fn broken(&self, number: u64, why: Broken) {
        // The keeper outlives every handle.
        let _ = self.reports.send((number, why));
    }
}

struct Keeper {
    name: &'static str,
    primary: Primary,
    states: watch::Sender<State>,
    down: Arc<AtomicBool>,
    broken: mpsc::UnboundedReceiver<(u64, Broken)>,
    reports: mpsc::UnboundedSender<(u64, Broken)>,
    pushed: Arc<dyn Fn(PushInfo) + Send + Sync>,
    /// A line said that the connection is gone, and none that it is back.
    is_lost: bool,
    lost: Every,
}

impl Keeper {
    fn tell_lost(&mut self, why: Broken) {
        if let Some(suppressed) = self.lost.pass() {
            self.is_lost = true;
            tracing::warn!(
                target: "codeq::store", category = "system", event = "store.lost",
                link = self.name, reason = ?why, suppressed,
                "lost the connection to Redis, connecting again"
            );
        }
    }

    async fn run(mut self) {
        let (mut number, mut failures) = (0, 0);
        loop {
            number += 1;
            let Some(connection) = self.dial(number, &mut failures).await else { return };
            let since = Instant::now();
            self.set(State::Up(Live { connection, number }));
            let Some(why) = self.break_of(number).await else { return };
            if since.elapsed() >= SETTLED {
                failures = 0;
            } else {
                failures += 1;
            }
            self.tell_lost(why);
            let at_once = why == Broken::Lost && failures == 0;
            self.set(if at_once { State::Dialing } else { State::Down });
        }
    }

    fn set(&self, state: State) {
        self.down.store(matches!(state, State::Down), Ordering::Relaxed);
        self.states.send_replace(state);
    }

    /// Dials until it works. `None` when nobody holds the link any more.
    async fn dial(&mut self, number: u64, failures: &mut u32) -> Option<MultiplexedConnection> {
        loop {
            if *failures > 0 {
                tokio::select! {
                    () = sleep(pause(*failures)) => {}
                    () = self.states.closed() => return None,
                }
            }
            let (pushed, reports) = (self.pushed.clone(), self.reports.clone());
            let dialed = self.primary.dial(move |push| match push.kind {
                // The keeper may have ended with the node.
                PushKind::Disconnection => drop(reports.send((number, Broken::Lost))),
                _ => pushed(push),
            });
            let result = tokio::select! {
                result = dialed => result,
                () = self.states.closed() => return None,
            };
            match result {
                Ok(connection) => {
                    if std::mem::take(&mut self.is_lost) {
                        tracing::info!(
                            target: "codeq::store", category = "system", event = "store.restored",
                            link = self.name, "connected to Redis again"
                        );
                    }
                    return Some(connection);
                }
                Err(error) => {
                    if !self.down.load(Ordering::Relaxed) {
                        self.is_lost = true;
                        tracing::warn!(
                            target: "codeq::store", category = "system", event = "store.unreachable",
                            link = self.name, error.message = %error,
                            "cannot reach Redis, trying on"
                        );
                    }
                    *failures = failures.saturating_add(1);
                    self.set(State::Down);
                }
            }
        }
    }

    /// Waits until the connection is reported broken. `None` when nobody holds the link any more.
    async fn break_of(&mut self, number: u64) -> Option<Broken> {
        loop {
            tokio::select! {
                report = self.broken.recv() => match report {
                    Some((broken, why)) if broken == number => return Some(why),
                    Some(_) => {}
                    None => return None,
                },
                () = self.states.closed() => return None,
            }
        }
    }
}

/// How long to wait before the next dial, full jitter.
fn pause(failures: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(8));
    longest.min(LONGEST_PAUSE).mul_f64(rand::random())
}

//! A claimed delivery, made ready to be sent: what it says, where it goes, whom it is from.

use bytes::Bytes;
use tokio::time::Instant;

use crate::app::{App, keys};
use crate::egress::Target;
use crate::model::delivery::{Delivery, Kind};
use crate::model::record::{Body, ResultText, Terminal, Unreadable};
use crate::model::{DeliveryId, TenantId, Time};
use crate::store;

use super::body::{self, Outcome};
use super::scripts::Claimed;

/// How much of a body and of a terminal record a claim brings along, in bytes; what is as long may
/// be cut.
const HEAD: usize = 1024;
const TERMINAL: usize = 8192;
/// Claims without an outcome before a delivery is taken for one that brings nodes down.
const MAX_CLAIMS: u8 = 10;

/// A delivery that this node holds.
pub struct Errand {
    /// Which.
    pub id: DeliveryId,
    /// Its name in the store.
    pub name: String,
    /// Its destination.
    pub destination: String,
    /// When the lease ends, by the store's clock: what fences its outcome.
    pub lease_ms: i64,
    /// The record as it was when it was claimed.
    pub record: Delivery,
    /// The task; none for an operator event, or when it is gone.
    pub task: Option<Task>,
    /// How that end of the task came, as long as its record is there.
    terminal: Option<Terminal>,
    /// The task was purged, and left behind with the delivery what there was to say.
    is_purged: bool,
    /// When it was claimed, by both clocks.
    claimed: (i64, Instant),
}

/// What a delivery needs to know of its task.
pub struct Task {
    /// The record without its payload.
    pub head: Bytes,
    /// The same, read.
    pub body: Body,
}

/// Why a delivery cannot be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsendable {
    /// The task, its result or the receiver's address are not there any more.
    Gone,
    /// Its URL is none that may be called.
    BadUrl,
}

impl Errand {
    /// Reads what a claim brought. What was cut off is fetched.
    ///
    /// # Errors
    /// The inner one when the record cannot be read; the outer one when the store does not answer.
    pub async fn read(
        app: &App,
        claimed: Claimed,
        now_ms: i64,
        at: Instant,
    ) -> Result<Result<Self, Unreadable>, store::Error> {
        let record = match Delivery::read(&claimed.record) {
            Ok(record) => record,
            Err(unreadable) => return Ok(Err(unreadable)),
        };
        let Some(id) = DeliveryId::from_short(&claimed.delivery) else {
            return Ok(Err(Unreadable::Damaged));
        };
        let head = match record.head.is_empty() {
            true => claimed.head,
            false => record.head.clone(),
        };
        let task = match head.is_empty() || record.kind == Kind::Event {
            true => None,
            false => match Task::read(app, &id, head).await? {
                Ok(task) => task,
                Err(unreadable) => return Ok(Err(unreadable)),
            },
        };
        let mut terminal = claimed.terminal;
        if terminal.len() == TERMINAL {
            let key = keys::done(&app.partitions, &id.task);
            terminal = whole(app, &id, key).await?.unwrap_or_default();
        }
        let is_purged = terminal.is_empty() && !record.head.is_empty();
        let terminal = Terminal::read(&terminal).ok().filter(|end| end.ends == record.ends);
        Ok(Ok(Self {
            id,
            name: claimed.delivery,
            destination: claimed.destination,
            lease_ms: claimed.lease_ms,
            record,
            task,
            terminal,
            is_purged,
            claimed: (now_ms, at),
        }))
    }

    /// The store's clock, as well as it can be told from here.
    pub fn now_ms(&self) -> i64 {
        let (then, at) = self.claimed;
        then + i64::try_from(at.elapsed().as_millis()).unwrap_or(i64::MAX - then)
    }

    /// Whose it is; none for an operator event.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.task.as_ref().map(|task| &task.body.tenant)
    }

    /// Which attempt comes now, from 1, over all series.
    pub fn attempt(&self) -> u16 {
        self.record.attempts.saturating_add(1)
    }

    /// Whether it brings nodes down, as far as one can tell.
    pub fn is_poison(&self) -> bool {
        self.record.claims >= MAX_CLAIMS
    }

    /// Whether it is given up unsent.
    pub fn is_over(&self, app: &App) -> bool {
        self.is_poison() || self.is_too_old(app)
    }

    /// Whether it was pending for too long.
    pub fn is_too_old(&self, app: &App) -> bool {
        u128::try_from(self.age_ms()).unwrap_or(0) >= app.settings.webhook.max_age.as_millis()
    }

    /// Since when this series of attempts is under way, in ms.
    pub fn age_ms(&self) -> i64 {
        self.now_ms() - self.record.born.ms()
    }

    /// Where it goes.
    ///
    /// # Errors
    /// Why it goes nowhere.
    pub fn target(&self, app: &App) -> Result<Target, Unsendable> {
        let parse = |text: &str| Target::parse_stored(text).map_err(|_| Unsendable::BadUrl);
        match (&self.task, self.record.kind) {
            (Some(task), _) => parse(task.body.webhook.as_deref().ok_or(Unsendable::Gone)?),
            (None, Kind::Event) => {
                let url = app.settings.webhook.ops_url.as_ref().ok_or(Unsendable::Gone)?;
                parse(url.expose().as_str())
            }
            (None, Kind::End(_)) => Err(Unsendable::Gone),
        }
    }

    /// What it says, and whether the result is left out of that.
    ///
    /// # Errors
    /// The inner one when it cannot be said any more; the outer one when the store does not answer.
    pub async fn body(&self, app: &App) -> Result<Result<(Bytes, bool), Unsendable>, store::Error> {
        if !self.record.body.is_empty() {
            return Ok(Ok((self.record.body.clone(), self.record.omitted.unwrap_or(false))));
        }
        let (Some(task), Kind::End(end)) = (&self.task, self.record.kind) else {
            return Ok(Err(Unsendable::Gone));
        };
        let Some(outcome) = self.outcome(app).await? else { return Ok(Err(Unsendable::Gone)) };
        let most = app.settings.webhook.max_body_bytes;
        let (decided, at) = (self.record.omitted, self.record.completed);
        Ok(Ok(body::body(&self.id.task, &task.body, end, at, &outcome, decided, most)))
    }

    async fn outcome(&self, app: &App) -> Result<Option<Outcome>, store::Error> {
        let partition = self.id.partition();
        if self.is_purged {
            return Ok(Some(Outcome { error: self.record.error.clone(), ..Outcome::default() }));
        }
        let Some(terminal) = &self.terminal else { return Ok(None) };
        let result = match &terminal.result {
            None => None,
            Some(ResultText::Inline(text)) => Some(text.clone()),
            Some(ResultText::Apart(name)) => {
                let key = keys::part(&app.partitions, &self.id.task, name);
                match app.store.get(partition, vec![key]).await?.pop().flatten() {
                    Some(text) => Some(text),
                    None => return Ok(None),
                }
            }
        };
        let (artifacts, error) = (terminal.artifacts.clone(), terminal.error.clone());
        Ok(Some(Outcome { result, artifacts, error }))
    }

    /// The part of the task's result that stands in a key of its own, as scripts name it.
    pub fn part(&self) -> Option<String> {
        match self.terminal.as_ref()?.result.as_ref()? {
            ResultText::Apart(name) => Some(format!("{}:{name}", self.id.task.short())),
            ResultText::Inline(_) => None,
        }
    }

    /// The trace that the step which ended the task is in: `traceparent` and `tracestate`.
    pub fn context(&self) -> (Option<&str>, Option<&str>) {
        let Some(Task { body, .. }) = &self.task else { return (None, None) };
        let ended = self.terminal.as_ref().and_then(|terminal| terminal.trace_parent.as_deref());
        (ended.or(body.trace_parent.as_deref()), body.trace_state.as_deref())
    }

    /// When the task ended, or the event took place.
    pub fn completed(&self) -> Time {
        self.record.completed
    }
}

impl Task {
    /// Reads a head; one that is cut is fetched whole. `None` when the task is gone.
    async fn read(
        app: &App,
        id: &DeliveryId,
        head: Bytes,
    ) -> Result<Result<Option<Self>, Unreadable>, store::Error> {
        let mut raw = head;
        let mut read = Body::read(&raw);
        if read == Err(Unreadable::Damaged) && raw.len() == HEAD {
            let key = keys::body(&app.partitions, &id.task);
            let Some(found) = whole(app, id, key).await? else { return Ok(Ok(None)) };
            (raw, read) = (found.clone(), Body::read(&found));
        }
        Ok(read.map(|body| {
            let head = raw.slice(..raw.len() - body.payload.len());
            Some(Self { head, body: Body { payload: Bytes::new(), ..body } })
        }))
    }
}

async fn whole(app: &App, id: &DeliveryId, key: String) -> Result<Option<Bytes>, store::Error> {
    Ok(app.store.get(id.partition(), vec![key]).await?.pop().flatten())
}

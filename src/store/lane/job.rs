//! One piece of work in a lane, from the caller to its answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::model::Partition;
use crate::store::reply::{Reply, read_item};
use crate::store::{Args, Class, Error, Script};

/// What a lane must know of a script.
pub(in crate::store) struct Called {
    pub name: &'static str,
    pub source: &'static str,
    pub repeatable: bool,
    pub reads: bool,
}

impl Called {
    /// The facts of `S`.
    pub const fn of<S: Script>() -> &'static Self {
        const {
            &Self {
                name: S::NAME,
                source: S::SOURCE,
                repeatable: S::REPEATABLE,
                reads: matches!(S::CLASS, Class::Read),
            }
        }
    }
}

/// What is to be done.
pub(in crate::store) enum Work {
    /// One item of a script; items of the same script, partition and shared arguments share a call.
    Item { script: &'static Called, partition: Partition, args: Args },
    /// A command of its own, always safe to repeat.
    Command { operation: &'static str, args: SmallVec<[Bytes; 5]> },
}

impl Work {
    /// The script's name, or the operation's.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Item { script, .. } => script.name,
            Self::Command { operation, .. } => operation,
        }
    }

    /// How much it weighs in a batch and in the queue.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Item { args, .. } => args.bytes() + 8 * args.count(),
            Self::Command { args, .. } => args.iter().map(Bytes::len).sum(),
        }
    }

    fn repeatable(&self) -> bool {
        match self {
            Self::Item { script, .. } => script.repeatable,
            Self::Command { .. } => true,
        }
    }
}

/// Takes an answer for which nobody waits any more, so that a claim's tasks can be given back.
pub(in crate::store) trait Orphanage: Send + Sync {
    fn take(&self, answer: Value);
}

struct Hook<R, F> {
    script: &'static str,
    on_orphan: Mutex<Option<F>>,
    reply: std::marker::PhantomData<fn() -> R>,
}

impl<R: Reply, F: FnOnce(R) + Send> Orphanage for Hook<R, F> {
    fn take(&self, answer: Value) {
        let hook = self.on_orphan.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (read_item(self.script, answer), hook) {
            (Ok(reply), Some(hook)) => hook(reply),
            // Refused: there is nothing to give back.
            (Err(Error::Refused(_)), _) | (_, None) => {}
            (Err(error), Some(_)) => {
                tracing::error!(
                    target: "codeq::store", category = "system", event = "store.unreadable",
                    script = self.script, error.message = %error,
                    "an unclaimed answer cannot be read"
                );
            }
        }
    }
}

/// A hook as lanes and callers hold it.
pub(in crate::store) fn orphanage<S: Script>(
    on_orphan: impl FnOnce(S::Reply) + Send + 'static,
) -> Arc<dyn Orphanage> {
    Arc::new(Hook {
        script: S::NAME,
        on_orphan: Mutex::new(Some(on_orphan)),
        reply: std::marker::PhantomData,
    })
}

/// The answer to a job, as long as somebody waits for it.
pub(in crate::store) type Answer = Result<Value, Error>;

/// Work that waits in a lane or is under way.
pub(in crate::store) struct Job {
    pub work: Work,
    /// When it was handed in.
    pub since: Instant,
    /// It was sent and its outcome is unknown: from here on no answer may say "nothing was done".
    pub unknown: bool,
    /// A call it shared failed: it goes alone, and is not tried a third time.
    pub alone: bool,
    /// How many times Redis did not know its script.
    pub reloads: u8,
    /// The script's loads when the job was last sent, see `Known::loads`.
    pub loads_seen: u64,
    /// Its wait was counted: an item that is sent again waited for something else.
    pub is_counted: bool,
    answer: Option<oneshot::Sender<Answer>>,
    pub orphanage: Option<Arc<dyn Orphanage>>,
}

impl Job {
    /// A job, and where its answer will arrive.
    pub fn new(work: Work, orphanage: Option<Arc<dyn Orphanage>>) -> (Box<Self>, Pending) {
        let (answer, receiver) = oneshot::channel();
        let pending = Pending { answer: receiver, orphanage: orphanage.clone() };
        (Self::with(work, Some(answer), orphanage), pending)
    }

    /// A job that nobody waits for.
    pub fn unattended(work: Work) -> Box<Self> {
        Self::with(work, None, None)
    }

    fn with(
        work: Work,
        answer: Option<oneshot::Sender<Answer>>,
        orphanage: Option<Arc<dyn Orphanage>>,
    ) -> Box<Self> {
        Box::new(Self {
            work,
            since: Instant::now(),
            unknown: false,
            alone: false,
            reloads: 0,
            loads_seen: 0,
            is_counted: false,
            answer,
            orphanage,
        })
    }

    /// Whether it is pointless or wrong to send it, because its caller has gone: a script that
    /// runs once only would take something for nobody, one that reads would read for nobody.
    /// The rest is done all the same, because the caller meant it.
    pub fn abandoned(&self) -> bool {
        let gone = self.answer.as_ref().is_some_and(oneshot::Sender::is_closed);
        gone && match &self.work {
            Work::Item { script, .. } => !script.repeatable || script.reads,
            Work::Command { .. } => false,
        }
    }

    /// Until when it may be sent: one command time, or two when it was sent before.
    pub fn send_before(&self, command_timeout: Duration) -> Instant {
        self.since + command_timeout * if self.unknown { 2 } else { 1 }
    }

    /// Whether it may be sent again though it may have been done.
    pub fn may_repeat(&self, now: Instant, command_timeout: Duration) -> bool {
        self.work.repeatable() && now < self.since + command_timeout * 2
    }

    /// Hands the answer over: to the caller, or to the orphanage when the caller has gone.
    pub fn succeed(self, value: Value) {
        let unclaimed = match self.answer {
            Some(answer) => answer.send(Ok(value)).err(),
            None => Some(Ok(value)),
        };
        if let (Some(Ok(value)), Some(orphanage)) = (unclaimed, self.orphanage) {
            orphanage.take(value);
        }
    }

    /// Tells the caller, who may have gone, that it failed.
    pub fn fail(&mut self, error: Error) {
        let nothing_was_done =
            matches!(error, Error::Unavailable | Error::Full { .. } | Error::OutOfMemory);
        let error = if self.unknown && nothing_was_done { Error::OutcomeUnknown } else { error };
        if let Some(answer) = self.answer.take() {
            // Nobody waits: then nobody needs to know.
            let _ = answer.send(Err(error));
        }
    }
}

/// The caller's side of a job. Dropping it is how a caller goes away; an answer that arrived in
/// that very moment still reaches the orphanage.
pub(in crate::store) struct Pending {
    answer: oneshot::Receiver<Answer>,
    orphanage: Option<Arc<dyn Orphanage>>,
}

impl Pending {
    pub async fn wait(mut self) -> Answer {
        // The lane ends only with the process, or by a panic: then nobody knows.
        (&mut self.answer).await.unwrap_or(Err(Error::OutcomeUnknown))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(orphanage) = self.orphanage.take() else { return };
        // After `close` a send fails and the lane keeps the answer; before it, the answer is here.
        self.answer.close();
        if let Ok(Ok(value)) = self.answer.try_recv() {
            orphanage.take(value);
        }
    }
}

//! What an answer means, for each job of a flight.

use redis::{ServerError, ServerErrorKind, Value};
use tokio::time::Instant;

use super::batch::{Call, What};
use super::flight::{Landed, Outcome, wait_for_orphans};
use super::job::Work;
use super::{Error, Job, Runner, State};
use crate::store::link::Broken;
use crate::telemetry::metrics::{StoreFailure, StoreResult};

/// So many flights in a row without an answer, and the connection is given up.
const SILENT_FLIGHTS: u32 = 2;
/// So often a script is loaded for one job before it is given up: somebody empties the cache
/// faster than we fill it.
const RELOADS: u8 = 3;

/// What an error of Redis says about a whole call.
enum Verdict {
    /// The script is not there; it did not run.
    NoScript,
    /// It did not run, and this connection is of no use now.
    Unready(StoreFailure),
    /// It did not run.
    Refused(StoreFailure),
    /// No memory for the first write, so nothing was written.
    OutOfMemory,
    /// It ran and failed, or cannot run.
    Failed,
}

impl Verdict {
    fn of(error: &ServerError) -> Self {
        let connection = StoreFailure::Connection;
        match (error.kind(), error.code()) {
            (Some(ServerErrorKind::NoScript), _) => Self::NoScript,
            (Some(ServerErrorKind::BusyLoading), _) => Self::Unready(StoreFailure::Busy),
            (Some(ServerErrorKind::ReadOnly), _) => Self::Unready(StoreFailure::ReadOnly),
            (Some(ServerErrorKind::MasterDown), _) => Self::Unready(connection),
            (Some(ServerErrorKind::Moved | ServerErrorKind::Ask), _) => {
                Self::Refused(StoreFailure::Moved)
            }
            (Some(ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown), _) => {
                Self::Refused(connection)
            }
            (_, "BUSY") => Self::Refused(StoreFailure::Busy),
            (_, "NOREPLICAS" | "MISCONF" | "NOAUTH") => Self::Refused(connection),
            (_, "OOM") => Self::OutOfMemory,
            // Before Redis 7 a script's error carries the code in its text only.
            _ if error.details().is_some_and(|text| text.contains("-OOM ")) => Self::OutOfMemory,
            _ => Self::Failed,
        }
    }
}

impl Runner {
    /// Hands the answers of a flight out.
    pub(super) fn land(&mut self, landed: Landed) {
        let Landed { calls, connection, sent, outcome } = landed;
        match outcome {
            Outcome::Answered(Ok(values)) => {
                self.timeouts = 0;
                let seconds = sent.elapsed().as_secs_f64();
                for (call, value) in calls.into_iter().zip(values) {
                    self.land_call(call, value, connection, seconds);
                }
            }
            Outcome::Answered(Err(error)) => {
                tracing::debug!(
                    target: "codeq::store", category = "debug", event = "store.batch_lost",
                    error.message = %error, "a batch was lost with its connection"
                );
                self.give_up(connection, Broken::Lost);
                self.repeat_or_fail(calls, StoreFailure::Connection);
            }
            Outcome::Silent(answers) => {
                if self.uses(connection) {
                    self.timeouts += 1;
                }
                if self.timeouts >= SILENT_FLIGHTS {
                    self.timeouts = 0;
                    self.give_up(connection, Broken::Silent);
                }
                wait_for_orphans(&calls, answers);
                self.repeat_or_fail(calls, StoreFailure::Timeout);
            }
        }
    }

    /// Sends nothing more on a connection. The keeper learns of it later than this lane.
    fn give_up(&mut self, connection: u64, why: Broken) {
        self.link.broken(connection, why);
        if self.uses(connection) {
            self.state = State::Dialing;
        }
    }

    fn uses(&self, connection: u64) -> bool {
        matches!(&self.state, State::Up(live) if live.number == connection)
    }

    fn land_call(&mut self, call: Call, value: Value, connection: u64, seconds: f64) {
        let operation = match &call.what {
            What::Load(script) => {
                if let Ok(known) = self.scripts.know(script) {
                    known.load_error = match value {
                        Value::ServerError(error) => Some(text_of(&error)),
                        _ => None,
                    };
                }
                return;
            }
            What::Script { script, .. } => script.name,
            What::Command => call.jobs[0].work.operation(),
        };
        let metrics = self.common.metrics.operation(operation);
        metrics.duration.observe(seconds);
        #[expect(clippy::cast_precision_loss, reason = "a batch has at most 64 items")]
        metrics.batch_size.observe(call.jobs.len() as f64);
        match (value, &call.what) {
            (Value::ServerError(error), _) => self.land_error(call, &error, connection),
            (Value::Array(items), What::Script { .. }) if items.len() == call.jobs.len() => {
                for (job, item) in call.jobs.into_iter().zip(items) {
                    metrics.results.with(result_of(&item)).inc();
                    job.succeed(item);
                }
            }
            (_, What::Script { script, .. }) => {
                let text = format!("lua/{}.lua did not answer each item", script.name);
                self.fail_all(call.jobs, &Error::Script(text), StoreFailure::Other);
            }
            (value, _) => {
                for job in call.jobs.into_iter().take(1) {
                    metrics.results.with(StoreResult::Ok).inc();
                    job.succeed(value.clone());
                }
            }
        }
    }

    fn land_error(&mut self, call: Call, error: &ServerError, connection: u64) {
        match Verdict::of(error) {
            Verdict::NoScript => self.reload(call),
            Verdict::Unready(reason) => {
                self.give_up(connection, Broken::Unready);
                self.fail_all(call.jobs, &Error::Unavailable, reason);
            }
            Verdict::Refused(reason) => self.fail_all(call.jobs, &Error::Unavailable, reason),
            Verdict::OutOfMemory => {
                self.fail_all(call.jobs, &Error::OutOfMemory, StoreFailure::OutOfMemory);
            }
            // One item may have made the call fail: each has a second chance, alone, so that its
            // neighbours get their answers and nobody reads another one's error.
            Verdict::Failed if call.jobs.len() > 1 => {
                for mut job in call.jobs {
                    job.alone = true;
                    self.held.push_back(job);
                }
            }
            Verdict::Failed => {
                let mut text = text_of(error);
                if let Work::Item { script, .. } = &call.jobs[0].work
                    && let Ok(known) = self.scripts.know(script)
                {
                    text = known.bundle.explain(&text);
                }
                self.fail_all(call.jobs, &Error::Script(text), StoreFailure::Other);
            }
        }
    }

    /// The script was not there: it is loaded ahead of the same calls, once for all that miss it.
    fn reload(&mut self, call: Call) {
        let What::Script { script, .. } = call.what else {
            let text = format!("{} is no script", call.jobs[0].work.operation());
            return self.fail_all(call.jobs, &Error::Script(text), StoreFailure::Other);
        };
        self.common.metrics.store_errors.with(StoreFailure::NoScript).inc();
        let mut load_error = None;
        if let Ok(known) = self.scripts.know(script) {
            known.load_wanted |= call.jobs.iter().any(|job| job.loads_seen == known.loads);
            load_error = known.load_error.as_ref().map(|error| known.bundle.explain(error));
        }
        for mut job in call.jobs {
            job.reloads += 1;
            if job.reloads <= RELOADS {
                self.held.push_back(job);
            } else {
                let error = load_error.clone().map_or(Error::Unavailable, Error::Script);
                self.fail(&mut job, error, StoreFailure::NoScript);
            }
        }
    }

    /// Nobody knows whether these were done: what may be repeated is, the others fail.
    fn repeat_or_fail(&mut self, calls: Vec<Call>, reason: StoreFailure) {
        let now = Instant::now();
        for mut job in calls.into_iter().flat_map(|call| call.jobs) {
            job.unknown = true;
            if job.may_repeat(now, self.common.command_timeout) {
                self.held.push_back(job);
            } else {
                self.fail(&mut job, Error::OutcomeUnknown, reason);
            }
        }
    }

    fn fail_all(&self, jobs: Vec<Box<Job>>, error: &Error, reason: StoreFailure) {
        for mut job in jobs {
            self.fail(&mut job, error.clone(), reason);
        }
    }
}

/// How an item's answer is counted.
fn result_of(item: &Value) -> StoreResult {
    match item {
        Value::BulkString(word) if word == b"NOT_FOUND" => StoreResult::NotFound,
        Value::BulkString(_) | Value::SimpleString(_) => StoreResult::Conflict,
        _ => StoreResult::Ok,
    }
}

fn text_of(error: &ServerError) -> String {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    }
}

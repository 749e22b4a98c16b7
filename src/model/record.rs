//! The packed records of the store, and their Rust side.
//!
//! Each begins with a version byte; a record of another version is refused and never rewritten, so
//! that two versions of the broker can run side by side. Numbers are big-endian. `lua/lib/record.lua`
//! is the other side of this file; tests run both against each other.

use bytes::{BufMut, Bytes};

use super::{Command, Location, Priority, QueueName, Status, TenantId, Time};

/// The version this broker writes.
pub const VERSION: u8 = 1;

/// A record that this version cannot read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreadable {
    /// Written by another version.
    #[error("record of version {0}, this broker reads version {VERSION}")]
    Version(u8),
    /// Shorter than its fields, or a field outside its range.
    #[error("record is damaged")]
    Damaged,
}

pub(super) type Read<T> = Result<T, Unreadable>;

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn versioned(bytes: &'a [u8]) -> Read<Self> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self(rest)),
            Some((&other, _)) => Err(Unreadable::Version(other)),
            None => Err(Unreadable::Damaged),
        }
    }

    pub(super) fn bytes(&mut self, n: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Unreadable::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn text(&mut self, n: usize) -> Read<&'a str> {
        std::str::from_utf8(self.bytes(n)?).map_err(|_| Unreadable::Damaged)
    }

    pub(super) fn u8(&mut self) -> Read<u8> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn u16(&mut self) -> Read<u16> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into().map_err(|_| Unreadable::Damaged)?))
    }

    pub(super) fn u32(&mut self) -> Read<u32> {
        Ok(u32::from_be_bytes(self.bytes(4)?.try_into().map_err(|_| Unreadable::Damaged)?))
    }

    pub(super) fn ms(&mut self) -> Read<i64> {
        Ok(i64::from_be_bytes(self.bytes(8)?.try_into().map_err(|_| Unreadable::Damaged)?))
    }

    pub(super) fn time(&mut self) -> Read<Time> {
        self.ms().map(Time::from_ms)
    }

    pub(super) fn short_text(&mut self) -> Read<String> {
        let n = self.u8()?;
        Ok(self.text(n.into())?.to_owned())
    }

    pub(super) fn long_text(&mut self) -> Read<String> {
        let n = self.u16()?;
        // Lua cuts by bytes only where Rust cut by characters before; stay readable all the same.
        Ok(String::from_utf8_lossy(self.bytes(n.into())?).into_owned())
    }
}

/// Absent when empty.
pub(super) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Which terminal transitions a task's webhook is sent for: one bit each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hooks(pub u8);

impl Hooks {
    /// No webhook.
    pub const NONE: Self = Self(0);
    /// Every transition.
    pub const ALL: Self = Self(0b1111);
    /// Beside the transitions: the body goes without the result.
    const THIN: u8 = 1 << 4;

    /// Those of these ends.
    pub fn of(ends: impl IntoIterator<Item = End>) -> Self {
        Self(ends.into_iter().fold(0, |bits, end| bits | end.hook()))
    }

    /// The same with thin bodies.
    #[must_use]
    pub fn thin(self) -> Self {
        Self(self.0 | Self::THIN)
    }

    /// Whether this end is told.
    pub fn wants(self, end: End) -> bool {
        self.0 & end.hook() != 0
    }

    /// Whether bodies go without the result.
    pub fn is_thin(self) -> bool {
        self.0 & Self::THIN != 0
    }
}

/// What a producer asked for: the record `b:<id>` without what only the script knows.
#[derive(Clone, Debug)]
pub struct NewBody<'a> {
    /// The queue.
    pub queue: QueueName,
    /// Priority within it.
    pub priority: Priority,
    /// Number of the command in the label registry, 0 for `_other`.
    pub label: u16,
    /// Digest of the idempotency key, 22 characters.
    pub idempotency: Option<&'a str>,
    /// Transitions the webhook is sent for.
    pub hooks: Hooks,
    /// Digest of the webhook's destination, 16 characters; there exactly when `hooks` is not empty.
    pub destination: Option<&'a str>,
    /// Whose task.
    pub tenant: &'a TenantId,
    /// The command as spelled.
    pub command: &'a Command,
    /// Where the result goes.
    pub webhook: Option<&'a str>,
    /// W3C `traceparent` of the create span.
    pub trace_parent: Option<&'a str>,
    /// W3C `tracestate`.
    pub trace_state: Option<&'a str>,
    /// W3C `baggage`.
    pub baggage: Option<&'a str>,
    /// JSON text as received.
    pub payload: &'a [u8],
}

/// Length of what the enqueue script writes in front: version, created, due, max attempts, retention.
pub const BODY_HEAD: usize = 1 + 8 + 8 + 2 + 4;

const FLAG_IDEMPOTENT: u8 = 1;

mod tag {
    pub const END: u8 = 0;
    pub const TENANT: u8 = 1;
    pub const COMMAND: u8 = 2;
    pub const TRACE_PARENT: u8 = 3;
    pub const WEBHOOK: u8 = 4;
    pub const TRACE_STATE: u8 = 5;
    pub const BAGGAGE: u8 = 6;
}

impl NewBody<'_> {
    /// Everything after the head.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.payload.len() + 160);
        out.put_u8(self.priority.number());
        out.put_u8(self.hooks.0);
        out.put_u16(self.label);
        out.put_u8(if self.idempotency.is_some() { FLAG_IDEMPOTENT } else { 0 });
        out.put_slice(self.queue.as_str().as_bytes());
        out.put_slice(self.idempotency.unwrap_or_default().as_bytes());
        out.put_slice(self.destination.unwrap_or_default().as_bytes());
        let mut field = |tag: u8, text: Option<&str>| {
            if let Some(text) = text {
                out.put_u8(tag);
                out.put_u16(
                    u16::try_from(text.len()).expect("each field is limited far below 64 KiB"),
                );
                out.put_slice(text.as_bytes());
            }
        };
        field(tag::TENANT, Some(self.tenant.as_str()));
        field(tag::COMMAND, Some(self.command.as_str()));
        field(tag::TRACE_PARENT, self.trace_parent);
        field(tag::WEBHOOK, self.webhook);
        field(tag::TRACE_STATE, self.trace_state);
        field(tag::BAGGAGE, self.baggage);
        out.put_u8(tag::END);
        out.put_slice(self.payload);
        out
    }
}

/// The record `b:<id>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// When it was accepted.
    pub created: Time,
    /// When it was first to be ready.
    pub due: Time,
    /// Deliveries it may have.
    pub max_attempts: u16,
    /// How long it is kept after its end.
    pub retention_seconds: u32,
    /// Priority within the queue.
    pub priority: Priority,
    /// Transitions its webhook is sent for.
    pub hooks: Hooks,
    /// Number in the label registry.
    pub label: u16,
    /// The queue.
    pub queue: QueueName,
    /// Digest of the idempotency key.
    pub idempotency: Option<String>,
    /// Digest of the webhook's destination.
    pub destination: Option<String>,
    /// Whose task.
    pub tenant: TenantId,
    /// The command as spelled.
    pub command: Command,
    /// Where the result goes.
    pub webhook: Option<String>,
    /// Trace context of the creation.
    pub trace_parent: Option<String>,
    /// W3C `tracestate`.
    pub trace_state: Option<String>,
    /// W3C `baggage`.
    pub baggage: Option<String>,
    /// JSON text as received; empty when only the head was read.
    pub payload: Bytes,
}

/// The label number in the beginning of a body, without reading the rest; 0 when there is none.
pub fn label_of(head: &[u8]) -> u16 {
    const LABEL: usize = BODY_HEAD + 2;
    head.get(LABEL..LABEL + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

impl Body {
    /// Reads a whole record.
    pub fn read(bytes: &Bytes) -> Read<Self> {
        let (mut body, used) = Self::parse(bytes, false)?;
        body.payload = bytes.slice(used..);
        Ok(body)
    }

    /// Reads what scripts give: the beginning of a record, at least to the command. Fields cut off
    /// are absent.
    pub fn read_head(bytes: &[u8]) -> Read<Self> {
        Self::parse(bytes, true).map(|(body, _)| body)
    }

    fn parse(bytes: &[u8], cut: bool) -> Read<(Self, usize)> {
        let mut r = Reader::versioned(bytes)?;
        let (created, due) = (r.time()?, r.time()?);
        let (max_attempts, retention_seconds) = (r.u16()?, r.u32()?);
        let priority = Priority::clamped(r.u8()?.into());
        let hooks = Hooks(r.u8()?);
        let label = r.u16()?;
        let flags = r.u8()?;
        let queue = QueueName::from_text(r.text(QueueName::LEN)?).ok_or(Unreadable::Damaged)?;
        let mut digest = |there: bool, n| match there {
            true => r.text(n).map(|text| Some(text.to_owned())),
            false => Ok(None),
        };
        let idempotency = digest(flags & FLAG_IDEMPOTENT != 0, 22)?;
        let destination = digest(hooks != Hooks::NONE, 16)?;
        let (mut tenant, mut command) = (None, None);
        let (mut webhook, mut trace_parent, mut trace_state, mut baggage) =
            (None, None, None, None);
        loop {
            let field = (|| {
                let tag = r.u8()?;
                if tag == tag::END {
                    return Ok(None);
                }
                let n = r.u16()?;
                Ok(Some((tag, r.text(n.into())?)))
            })();
            match field {
                Ok(None) => break,
                Ok(Some((tag::TENANT, text))) => tenant = Some(TenantId::trusted(text)),
                Ok(Some((tag::COMMAND, text))) => command = Some(Command::trusted(text)),
                Ok(Some((tag::TRACE_PARENT, text))) => trace_parent = Some(text.to_owned()),
                Ok(Some((tag::WEBHOOK, text))) => webhook = Some(text.to_owned()),
                Ok(Some((tag::TRACE_STATE, text))) => trace_state = Some(text.to_owned()),
                Ok(Some((tag::BAGGAGE, text))) => baggage = Some(text.to_owned()),
                Ok(Some(_)) => {} // a field of a later version
                Err(_) if cut => break,
                Err(damaged) => return Err(damaged),
            }
        }
        let used = bytes.len() - r.0.len();
        let body = Self {
            created,
            due,
            max_attempts,
            retention_seconds,
            priority,
            hooks,
            label,
            queue,
            idempotency,
            destination,
            tenant: tenant.ok_or(Unreadable::Damaged)?,
            command: command.ok_or(Unreadable::Damaged)?,
            webhook,
            trace_parent,
            trace_state,
            baggage,
            payload: Bytes::new(),
        };
        Ok((body, used))
    }
}

/// The record in `f`: who holds a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// When it was claimed.
    pub claimed: Time,
    /// Which delivery this is, from 1.
    pub attempt: u16,
    /// Terminal transitions before (a task that came back from the DLQ).
    pub ends: u16,
    /// Whether `h:<id>` has entries.
    pub has_history: bool,
    /// The lease id.
    pub token: String,
    /// The worker's subject.
    pub worker: String,
    /// Trace context of the latest step.
    pub trace_parent: Option<String>,
}

impl Lease {
    /// Reads the record.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut r = Reader::versioned(bytes)?;
        let flags = r.u8()?;
        Ok(Self {
            has_history: flags & 1 != 0,
            claimed: r.time()?,
            attempt: r.u16()?,
            ends: r.u16()?,
            token: r.text(16)?.to_owned(),
            worker: r.long_text()?,
            trace_parent: some(r.short_text()?),
        })
    }
}

/// The record in `a`: what a task that nobody holds brings along from its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// When its state last changed.
    pub at: Time,
    /// Since when it is, or when it will be, ready.
    pub visible: Time,
    /// Deliveries so far.
    pub attempts: u16,
    /// Terminal transitions so far.
    pub ends: u16,
    /// Trace context of the latest step.
    pub trace_parent: Option<String>,
}

impl Attempted {
    /// Reads the record.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut r = Reader::versioned(bytes)?;
        r.u8()?; // flags
        r.u16()?; // label
        let (at, visible) = (r.time()?, r.time()?);
        let (attempts, ends) = (r.u16()?, r.u16()?);
        r.u8()?; // the answer to repeat
        r.ms()?; // its delay
        r.bytes(16)?; // the lease it ended
        r.long_text()?; // whose
        Ok(Self { at, visible, attempts, ends, trace_parent: some(r.short_text()?) })
    }
}

/// How a task ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A worker's success.
    Completed,
    /// A worker's verdict.
    Failed,
    /// No attempt was left.
    Dead,
    /// Called off before it began.
    Cancelled,
}

impl End {
    /// From its byte in records.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Completed,
            2 => Self::Failed,
            3 => Self::Dead,
            4 => Self::Cancelled,
            _ => return None,
        })
    }

    /// Its byte in records.
    pub fn byte(self) -> u8 {
        match self {
            Self::Completed => 1,
            Self::Failed => 2,
            Self::Dead => 3,
            Self::Cancelled => 4,
        }
    }

    /// Its bit among the hooks.
    fn hook(self) -> u8 {
        1 << (self.byte() - 1)
    }

    /// What the wire says.
    pub fn status(self) -> Status {
        if self == Self::Completed { Status::Completed } else { Status::Failed }
    }
}

/// Where the JSON text of a result is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultText {
    /// In the record.
    Inline(Bytes),
    /// In a key of its own, named by these 16 characters.
    Apart(String),
}

/// The record `c:<id>`: how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// How.
    pub end: End,
    /// The how manieth terminal transition of the task, from 1.
    pub ends: u16,
    /// When.
    pub completed: Time,
    /// The last claim, if there was one.
    pub claimed: Option<Time>,
    /// Deliveries it had.
    pub attempts: u16,
    /// Who ended it, or held it last.
    pub worker: Option<String>,
    /// Trace context of the step that ended it.
    pub trace_parent: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The JSON text of the result.
    pub result: Option<ResultText>,
    /// The JSON text of the artifacts.
    pub artifacts: Option<Bytes>,
}

mod part {
    pub const RESULT: u8 = 1;
    pub const RESULT_APART: u8 = 2;
    pub const ARTIFACTS: u8 = 3;
}

impl Terminal {
    /// Packs the parts that only Rust reads, as the submit script appends them.
    pub fn pack_parts(result: Option<&ResultText>, artifacts: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |tag: u8, bytes: &[u8]| {
            out.put_u8(tag);
            out.put_u32(u32::try_from(bytes.len()).expect("bodies are limited far below 4 GiB"));
            out.put_slice(bytes);
        };
        match result {
            Some(ResultText::Inline(bytes)) => put(part::RESULT, bytes),
            Some(ResultText::Apart(name)) => put(part::RESULT_APART, name.as_bytes()),
            None => {}
        }
        if let Some(artifacts) = artifacts {
            put(part::ARTIFACTS, artifacts);
        }
        out
    }

    /// Reads the record.
    pub fn read(bytes: &Bytes) -> Read<Self> {
        let mut r = Reader::versioned(bytes)?;
        let end = End::from_byte(r.u8()?).ok_or(Unreadable::Damaged)?;
        let ends = r.u16()?;
        let completed = r.time()?;
        let claimed = Some(r.time()?).filter(|at| at.ms() > 0);
        let attempts = r.u16()?;
        r.bytes(16)?; // lease
        r.bytes(16)?; // digest of the verdict
        let worker = some(r.long_text()?);
        let trace_parent = some(r.short_text()?);
        let error = some(r.long_text()?);
        let (mut result, mut artifacts) = (None, None);
        while !r.0.is_empty() {
            let tag = r.u8()?;
            let n = r.u32()? as usize;
            let value = bytes.slice_ref(r.bytes(n)?);
            match tag {
                part::RESULT => result = Some(ResultText::Inline(value)),
                part::RESULT_APART => {
                    let name =
                        String::from_utf8(value.to_vec()).map_err(|_| Unreadable::Damaged)?;
                    result = Some(ResultText::Apart(name));
                }
                part::ARTIFACTS => artifacts = Some(value),
                _ => {}
            }
        }
        Ok(Self {
            end,
            ends,
            completed,
            claimed,
            attempts,
            worker,
            trace_parent,
            error,
            result,
            artifacts,
        })
    }
}

/// One entry of `h:<id>`: an attempt that did not end by a submit, or a DLQ requeue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// When it began; for a requeue, the same as `ended`.
    pub claimed: Time,
    /// When it ended.
    pub ended: Time,
    /// Which delivery it was.
    pub attempt: u16,
    /// What happened.
    pub cause: Cause,
    /// Where the task went.
    pub to: Location,
    /// Who held it.
    pub worker: String,
    /// Trace context of the step.
    pub trace_parent: Option<String>,
    /// The reason a worker gave.
    pub reason: Option<String>,
}

/// What ended an attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The worker gave it back for later.
    Nack,
    /// The worker fell silent.
    LeaseExpired,
    /// The worker gave it back unused.
    Abandon,
    /// The claim's answer could not be handed over.
    Undelivered,
    /// An admin sent it back from the DLQ.
    Redrive,
}

impl Past {
    /// Reads an entry.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut r = Reader::versioned(bytes)?;
        let (claimed, ended) = (r.time()?, r.time()?);
        let attempt = r.u16()?;
        let cause = match r.u8()? {
            1 => Cause::Nack,
            2 => Cause::LeaseExpired,
            3 => Cause::Abandon,
            4 => Cause::Undelivered,
            5 => Cause::Redrive,
            _ => return Err(Unreadable::Damaged),
        };
        let to = match r.u8()? {
            1 => Location::Ready,
            2 => Location::Delayed,
            3 => Location::Dead,
            _ => return Err(Unreadable::Damaged),
        };
        Ok(Self {
            claimed,
            ended,
            attempt,
            cause,
            to,
            worker: r.long_text()?,
            trace_parent: some(r.short_text()?),
            reason: some(r.long_text()?),
        })
    }
}

/// The digest of an idempotency key, 22 characters. Scoped to tenant and lower-cased command by the
/// queue's name.
pub fn idempotency_digest(queue: &QueueName, key: &str) -> String {
    super::digest_text::<16>(&[b"idempotency", queue.as_str().as_bytes(), key.as_bytes()])
}

/// The digest by which two payloads, or two verdicts, are called the same: 16 characters.
pub fn content_digest(parts: &[&[u8]]) -> String {
    super::digest_text::<12>(parts)
}

/// The digest of a webhook's destination: tenant and origin, 16 characters.
pub fn destination_digest(tenant: &TenantId, origin: &str) -> String {
    super::digest_text::<12>(&[b"destination", tenant.as_str().as_bytes(), origin.as_bytes()])
}

/// Digest of the destination of operator events, which is no tenant's.
pub fn operator_destination_digest(origin: &str) -> String {
    super::digest_text::<12>(&[b"destination", b"", origin.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(payload: &[u8], webhook: Option<&str>) -> Bytes {
        let (tenant, command) =
            (TenantId::parse("acme").unwrap(), Command::parse("Send Mail/é").unwrap());
        let idempotency = idempotency_digest(&QueueName::of(&tenant, &command), "k");
        let new = NewBody {
            queue: QueueName::of(&tenant, &command),
            priority: Priority::clamped(7),
            label: 12,
            idempotency: Some(&idempotency),
            hooks: if webhook.is_some() { Hooks::ALL } else { Hooks::NONE },
            destination: webhook.map(|_| "0123456789abcdef"),
            tenant: &tenant,
            command: &command,
            webhook,
            trace_parent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            trace_state: None,
            baggage: Some("a=b"),
            payload,
        };
        let mut all = vec![VERSION];
        all.put_i64(1000);
        all.put_i64(2000);
        all.put_u16(5);
        all.put_u32(86400);
        all.extend(new.pack());
        all.into()
    }

    #[test]
    fn a_body_comes_back_byte_for_byte() {
        let payload = b"{\"a\" : [1, 2.0,\t3]}".as_slice();
        let read = Body::read(&body(payload, Some("https://x.example/hook"))).unwrap();
        assert_eq!(read.payload, payload);
        assert_eq!((read.created.ms(), read.due.ms(), read.max_attempts), (1000, 2000, 5));
        assert_eq!(read.command.as_str(), "Send Mail/é");
        assert_eq!(read.webhook.as_deref(), Some("https://x.example/hook"));
        assert_eq!(read.baggage.as_deref(), Some("a=b"));
    }

    #[test]
    fn a_head_cut_behind_the_command_still_reads() {
        let whole = body(b"{}", Some("https://x.example/a/long/path"));
        let cut = Body::read_head(&whole[..whole.len() - 20]).unwrap();
        assert_eq!(cut.tenant.as_str(), "acme");
        assert_eq!(cut.baggage, None);
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let mut whole = body(b"{}", None).to_vec();
        whole[0] = 2;
        assert_eq!(Body::read(&whole.into()), Err(Unreadable::Version(2)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = VERSION; }
            let bytes = Bytes::from(bytes);
            let _ = (Body::read(&bytes), Body::read_head(&bytes), Lease::read(&bytes));
            let _ = (Attempted::read(&bytes), Terminal::read(&bytes), Past::read(&bytes));
        }
    }
}

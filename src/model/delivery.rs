//! A webhook delivery: its name and its record. `lua/lib/delivery.lua` is the other side.

use std::fmt;

use bytes::{BufMut, Bytes};

use super::record::{End, Read, Reader, Unreadable, VERSION, some};
use super::{Partition, TaskId, Time};

/// Which delivery: a task and the how manieth of its ends, from 1. On the wire it is the
/// `webhook-id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliveryId {
    /// The task. An operator event has an id of the same form and no task.
    pub task: TaskId,
    /// Which of its ends.
    pub n: u16,
}

impl DeliveryId {
    /// Reads the wire form, `<task id>_<n>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (task, n) = text.split_once('_')?;
        Some(Self { task: TaskId::parse(task)?, n: number(n)? })
    }

    /// Reads [`short`](Self::short).
    pub fn from_short(text: &str) -> Option<Self> {
        // Short ids may hold underscores themselves.
        let (task, n) = text.split_at_checked(22)?;
        Some(Self { task: TaskId::from_short(task)?, n: number(n.strip_prefix('_')?)? })
    }

    /// The form in Redis.
    pub fn short(&self) -> String {
        format!("{}_{}", self.task.short(), self.n)
    }

    /// Where its record lives.
    pub fn partition(&self) -> Partition {
        self.task.partition()
    }
}

/// From 1, without a sign or leading zeros: an id has one spelling.
fn number(text: &str) -> Option<u16> {
    if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.task, self.n)
    }
}

/// Declares an enum that is a byte in records and a word on the wire.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$member:meta])* $variant:ident = $byte:literal $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum $name { $($(#[$member])* $variant = $byte,)+ }

        impl $name {
            /// Each of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// From its byte in records.
            pub fn from_byte(byte: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| *one as u8 == byte)
            }

            /// What the wire says.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads what the wire says.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text)
            }
        }
    };
}

words! {
    /// What became of a delivery.
    State {
        /// It will be sent, or is being sent.
        Pending = 0 "pending",
        /// The receiver accepted it.
        Delivered = 1 "delivered",
        /// It was given up.
        Dead = 2 "dead",
        /// The task came back from the DLQ before it was accepted.
        Superseded = 3 "superseded",
    }
}

words! {
    /// Why a delivery was given up.
    Reason {
        /// The receiver answered 410.
        Gone = 1 "gone",
        /// Every attempt of the schedule failed.
        Exhausted = 2 "exhausted",
        /// It was pending for too long.
        Expired = 3 "expired",
        /// Its URL names an address that is not allowed.
        Blocked = 4 "blocked",
        /// Nodes claimed it time and again and none came back.
        Poison = 5 "poison",
        /// The receiver asked not to be sent it again.
        Aborted = 6 "aborted",
    }
}

words! {
    /// Why an attempt was made.
    Trigger {
        /// Its time had come.
        Schedule = 0 "schedule",
        /// Somebody asked for it.
        Replay = 1 "replay",
        /// It tried out whether the destination is back.
        Probe = 2 "probe",
    }
}

words! {
    /// How an attempt ended, as the label of the metric says it.
    Class {
        /// Accepted.
        Success = 0 "2xx",
        /// A redirect, which is not followed.
        Http3xx = 1 "http_3xx",
        /// The receiver refuses it.
        Http4xx = 2 "http_4xx",
        /// The receiver wants to be left alone for a while.
        Http429 = 3 "http_429",
        /// The receiver failed.
        Http5xx = 4 "http_5xx",
        /// The name could not be resolved.
        Dns = 5 "dns",
        /// Nobody listens.
        Connect = 6 "connect",
        /// No trust in the certificate, or no TLS.
        Tls = 7 "tls",
        /// No status line in time.
        Timeout = 8 "timeout",
        /// The connection broke.
        Reset = 9 "reset",
        /// No address that is allowed.
        Blocked = 10 "blocked",
        /// The egress proxy failed.
        Proxy = 11 "proxy",
    }
}

/// What one attempt left in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it began.
    pub at: Time,
    /// Why.
    pub trigger: Trigger,
    /// How long it took, in ms.
    pub duration_ms: u32,
    /// The receiver's status, if it came.
    pub status: Option<u16>,
    /// How it ended.
    pub class: Class,
    /// The trace it is in.
    pub trace_id: Option<[u8; 16]>,
    /// The first bytes of the answer's body, none from an address that is not public.
    pub excerpt: Vec<u8>,
}

impl Entry {
    /// As the record keeps it.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.excerpt.len());
        out.put_i64(self.at.ms());
        out.put_u8(self.trigger as u8);
        out.put_u32(self.duration_ms);
        out.put_u16(self.status.unwrap_or(0));
        out.put_u8(self.class as u8);
        out.put_slice(&self.trace_id.unwrap_or_default());
        out.put_slice(&self.excerpt);
        out
    }

    fn read(bytes: &[u8]) -> Read<Self> {
        let mut r = Reader(bytes);
        let at = r.time()?;
        let trigger = Trigger::from_byte(r.u8()?).ok_or(Unreadable::Damaged)?;
        let duration_ms = r.u32()?;
        let status = Some(r.u16()?).filter(|status| *status != 0);
        let class = Class::from_byte(r.u8()?).ok_or(Unreadable::Damaged)?;
        let trace_id: [u8; 16] = r.bytes(16)?.try_into().map_err(|_| Unreadable::Damaged)?;
        let trace_id = Some(trace_id).filter(|id| *id != [0; 16]);
        Ok(Self { at, trigger, duration_ms, status, class, trace_id, excerpt: r.0.to_vec() })
    }
}

/// What a delivery reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// How a task ended.
    End(End),
    /// Something the operator asked to be told.
    Event,
}

const EVENT: u8 = 5;

/// Attempts that the log keeps.
const MAX_LOG: usize = 20;

/// Bits of `flags`.
mod flag {
    pub const DECIDED: u8 = 1;
    pub const OMITTED: u8 = 2;
    pub const REPLAY: u8 = 4;
}

/// Stands for the operator where a tenant's tag would; no tag has dots.
pub const OPERATOR_TAG: &str = "............";

/// The record `v:<delivery>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What became of it.
    pub state: State,
    /// Attempts so far, over all series.
    pub attempts: u16,
    /// Attempts before the series that is under way.
    pub base: u16,
    /// Claims since an outcome was last written.
    pub claims: u8,
    /// Whether the body goes without the result, once that was decided: a setting that changes
    /// must not change a body.
    pub omitted: Option<bool>,
    /// Whether somebody asked for the series.
    pub replay: bool,
    /// Why it is dead.
    pub reason: Option<Reason>,
    /// What it reports.
    pub kind: Kind,
    /// The how manieth end of the task.
    pub ends: u16,
    /// When the task ended, or the event took place.
    pub completed: Time,
    /// When the series of attempts began.
    pub born: Time,
    /// When it was delivered, or died.
    pub changed: Option<Time>,
    /// Tag of the tenant.
    pub tenant_tag: String,
    /// The destination.
    pub destination: String,
    /// `traceparent` of the request that asked for the series.
    pub asked: Option<String>,
    /// The task's error, when the task itself is gone.
    pub error: Option<String>,
    /// The last attempts, oldest first.
    pub log: Vec<Entry>,
    /// The task's body without its payload, once the delivery has it with it.
    pub head: Bytes,
    /// The body that is sent, once the delivery has it with it.
    pub body: Bytes,
}

impl Delivery {
    /// Reads a record.
    ///
    /// # Errors
    /// When it is another version's, or damaged.
    pub fn read(bytes: &[u8]) -> Read<Self> {
        let mut r = Reader::versioned(bytes)?;
        let state = State::from_byte(r.u8()?).ok_or(Unreadable::Damaged)?;
        let (attempts, base, claims) = (r.u16()?, r.u16()?, r.u8()?);
        let flags = r.u8()?;
        let reason = Reason::from_byte(r.u8()?);
        let kind = match r.u8()? {
            EVENT => Kind::Event,
            end => Kind::End(End::from_byte(end).ok_or(Unreadable::Damaged)?),
        };
        let ends = r.u16()?;
        let (completed, born) = (r.time()?, r.time()?);
        let changed = Some(r.time()?).filter(|at| at.ms() != 0);
        let (tenant_tag, destination) = (r.text(12)?.to_owned(), r.text(16)?.to_owned());
        let (asked, error) = (some(r.short_text()?), some(r.long_text()?));
        let entries = r.u8()?;
        let mut log = Vec::with_capacity(entries.into());
        for _ in 0..entries {
            let n = r.u16()?;
            log.push(Entry::read(r.bytes(n.into())?)?);
        }
        let mut kept = || {
            let n = usize::try_from(r.u32()?).map_err(|_| Unreadable::Damaged)?;
            r.bytes(n).map(Bytes::copy_from_slice)
        };
        Ok(Self {
            state,
            attempts,
            base,
            claims,
            omitted: (flags & flag::DECIDED != 0).then_some(flags & flag::OMITTED != 0),
            replay: flags & flag::REPLAY != 0,
            reason,
            kind,
            ends,
            completed,
            born,
            changed,
            tenant_tag,
            destination,
            asked,
            error,
            log,
            head: kept()?,
            body: kept()?,
        })
    }

    /// The byte that scripts write back for what was decided about the body.
    pub fn flags(&self) -> u8 {
        let decided = match self.omitted {
            None => 0,
            Some(false) => flag::DECIDED,
            Some(true) => flag::DECIDED | flag::OMITTED,
        };
        decided | if self.replay { flag::REPLAY } else { 0 }
    }

    /// The record once this attempt was accepted: only the log is kept.
    pub fn delivered(&self, entry: Entry, now_ms: i64) -> Vec<u8> {
        let kind = match self.kind {
            Kind::End(end) => end.byte(),
            Kind::Event => EVENT,
        };
        let first = (self.log.len() + 1).saturating_sub(MAX_LOG);
        let log = self.log.iter().skip(first).chain([&entry]);
        let mut out = Vec::with_capacity(160);
        out.put_slice(&[VERSION, State::Delivered as u8]);
        out.put_u16(self.attempts.saturating_add(1));
        out.put_u16(self.base);
        out.put_slice(&[0, self.flags(), self.reason.map_or(0, |reason| reason as u8), kind]);
        out.put_u16(self.ends);
        out.put_i64(self.completed.ms());
        out.put_i64(self.born.ms());
        out.put_i64(now_ms);
        out.put_slice(self.tenant_tag.as_bytes());
        out.put_slice(self.destination.as_bytes());
        out.put_bytes(0, 1 + 2);
        out.put_u8(u8::try_from(log.clone().count()).expect("the log is short"));
        for entry in log {
            let entry = entry.pack();
            out.put_u16(u16::try_from(entry.len()).expect("excerpts are short"));
            out.put_slice(&entry);
        }
        out.put_bytes(0, 4 + 4);
        out
    }

    /// The record of an operator event; the script that takes it writes its times.
    pub fn event(destination: &str, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(96 + body.len());
        out.put_slice(&[VERSION, State::Pending as u8]);
        out.put_bytes(0, 5); // attempts, base, claims
        out.put_slice(&[flag::DECIDED, 0, EVENT]);
        out.put_u16(1);
        out.put_bytes(0, 24);
        out.put_slice(OPERATOR_TAG.as_bytes());
        out.put_slice(destination.as_bytes());
        out.put_bytes(0, 1 + 2 + 1 + 4);
        out.put_u32(u32::try_from(body.len()).expect("events are small"));
        out.put_slice(body);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_id_has_one_spelling() {
        let id = DeliveryId { task: TaskId::new(Partition::new(3), 1_700_000_000_000), n: 12 };
        assert_eq!(DeliveryId::parse(&id.to_string()), Some(id));
        assert_eq!(DeliveryId::from_short(&id.short()), Some(id));
        assert_eq!(id.partition().number(), 3);
        for n in ["", "0", "01", "+1", "-1", "1 ", "65536", "1_1"] {
            assert_eq!(DeliveryId::parse(&format!("{}_{n}", id.task)), None, "{n:?}");
        }
    }

    #[test]
    fn an_entry_of_the_log_is_read_as_it_was_packed() {
        let entry = Entry {
            at: Time::from_ms(1_700_000_000_123),
            trigger: Trigger::Probe,
            duration_ms: 15_000,
            status: None,
            class: Class::Timeout,
            trace_id: Some([7; 16]),
            excerpt: b"no".to_vec(),
        };
        assert_eq!(Entry::read(&entry.pack()), Ok(entry.clone()));
        let bare = Entry { status: Some(503), trace_id: None, excerpt: Vec::new(), ..entry };
        assert_eq!(Entry::read(&bare.pack()), Ok(bare));
    }

    #[test]
    fn an_operator_event_carries_its_body() {
        let record = Delivery::event("0123456789abcdef", b"{}");
        let read = Delivery::read(&record).unwrap();
        assert_eq!((read.kind, read.ends, read.state), (Kind::Event, 1, State::Pending));
        assert_eq!((read.destination.as_str(), &read.body[..]), ("0123456789abcdef", &b"{}"[..]));
        assert_eq!(read.tenant_tag, OPERATOR_TAG);
    }

    #[test]
    fn what_is_kept_of_a_delivered_one_is_its_log() {
        let entry = |n: u32| Entry {
            at: Time::from_ms(n.into()),
            trigger: Trigger::Schedule,
            duration_ms: n,
            status: Some(500),
            class: Class::Http5xx,
            trace_id: None,
            excerpt: vec![b'x'; 256],
        };
        let pending = Delivery::read(&Delivery::event("0123456789abcdef", b"{}")).unwrap();
        for before in [0, 1, 19, 20] {
            let pending = Delivery {
                log: (0..before).map(entry).collect(),
                attempts: 30,
                claims: 1,
                asked: Some("who".into()),
                kind: Kind::End(End::Dead),
                ..pending.clone()
            };
            let kept = Delivery::read(&pending.delivered(entry(99), 7)).unwrap();
            let first = u32::from(before == 20);
            let expected = Delivery {
                state: State::Delivered,
                attempts: 31,
                claims: 0,
                changed: Some(Time::from_ms(7)),
                asked: None,
                log: (first..before).chain([99]).map(entry).collect(),
                body: Bytes::new(),
                ..pending
            };
            assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_record_of_a_later_version_or_cut_short_is_refused() {
        let mut record = Delivery::event("0123456789abcdef", b"{}");
        for cut in 1..record.len() {
            assert_eq!(Delivery::read(&record[..cut]), Err(Unreadable::Damaged), "{cut}");
        }
        record[0] = 2;
        assert_eq!(Delivery::read(&record), Err(Unreadable::Version(2)));
    }
}

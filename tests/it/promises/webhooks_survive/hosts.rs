//! Receivers on hosts of their own, each failing at random.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::support::receiver::{After, Request, mix};
use crate::support::{Keys, Receiver, Reply};

/// All of them.
pub struct Hosts {
    receivers: Vec<Receiver>,
    /// What was wrong with requests, looked at as they came: a signature is good for five minutes.
    wrong: Arc<Mutex<Vec<String>>>,
}

impl Hosts {
    pub async fn start(count: usize, seed: u64, failures: u32, secret: &str) -> Self {
        let wrong = Arc::<Mutex<Vec<String>>>::default();
        let mut receivers = Vec::new();
        for n in 0..count {
            let receiver = Receiver::on(&format!("127.38.0.{}", n + 1)).await;
            let (wrong, keys) = (wrong.clone(), Keys::of(secret));
            let mut reply = mix(seed + n as u64, replies(failures));
            receiver.answers_by(move |request| {
                if let Err(reason) = request.verify(&keys) {
                    wrong.lock().unwrap().push(format!("{reason}: {}", request.webhook_id()));
                }
                reply(request)
            });
            receivers.push(receiver);
        }
        Self { receivers, wrong }
    }

    /// Where tasks send their webhooks, a host after the other.
    pub fn urls(&self) -> Vec<String> {
        self.receivers.iter().map(Receiver::url).collect()
    }

    /// The one that goes away.
    pub fn last_mut(&mut self) -> &mut Receiver {
        self.receivers.last_mut().expect("there are receivers")
    }

    /// Every request that came.
    pub fn requests(&self) -> Vec<Request> {
        self.receivers.iter().flat_map(Receiver::requests).collect()
    }

    /// What was wrong with them when they came.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    /// Waits until a delivery was accepted for each of these tasks.
    pub async fn until_told(&self, tasks: &[String]) {
        let mut missing: HashSet<&str> = tasks.iter().map(String::as_str).collect();
        let mut seen = vec![0; self.receivers.len()];
        while !missing.is_empty() {
            for (receiver, seen) in self.receivers.iter().zip(&mut seen) {
                // Slow ones are still on their way: those are looked at again.
                *seen = receiver.accepted_since(*seen, |request| {
                    let id = request.webhook_id();
                    missing.remove(id.split_once('_').map_or(id, |(task, _)| task));
                });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Mostly 200. Few enough of each failure that five in a row, which open a destination's circuit
/// for half a minute, are rare.
fn replies(failures: u32) -> Vec<(u32, Reply)> {
    let reset_after_status = Bytes::from("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
    let kinds = [
        Reply::Status(500),
        Reply::Hang,
        Reply::Close,
        Reply::Drip,
        // Over the time of an attempt.
        Reply::Slow(Duration::from_millis(1300)),
        // Of all of them this one is for every delivery of the host.
        Reply::too_many("1"),
    ];
    let kinds_count = u32::try_from(kinds.len()).expect("a handful");
    let mut replies: Vec<_> = kinds.into_iter().map(|reply| (failures, reply)).collect();
    replies.extend([
        // Accepted, though what comes after the status line is not as it should be.
        (failures, Reply::Bytes(reset_after_status, After::Reset)),
        (failures, Reply::Slow(Duration::from_millis(100))),
    ]);
    let rest = 1000 - failures * (kinds_count + 2);
    replies.push((rest, Reply::OK));
    replies
}

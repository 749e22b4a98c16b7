//! Saying something to every node that listens, and not the same thing all the time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::smallvec;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::lane::{Job, Lane, Work};
use crate::model::Partition;

/// A message is sent at most once in so long; what is said again meanwhile is sent at its end.
const QUIET: Duration = Duration::from_millis(2);

/// Publishes, and keeps repetitions apart.
pub(super) struct Publisher {
    /// Without a limit of its own: each message follows a call that had one.
    inbox: mpsc::UnboundedReceiver<(Partition, String)>,
    lane: Lane,
    channels: Arc<[String]>,
    /// What was sent just now, and whether it was said again since.
    said: HashMap<(Partition, String), bool>,
    /// When each of those may be sent again, soonest first.
    quiet: VecDeque<(Instant, (Partition, String))>,
}

impl Publisher {
    pub fn new(
        inbox: mpsc::UnboundedReceiver<(Partition, String)>,
        lane: Lane,
        channels: Arc<[String]>,
    ) -> Self {
        Self { inbox, lane, channels, said: HashMap::new(), quiet: VecDeque::new() }
    }

    pub async fn run(mut self) {
        loop {
            let next = self.quiet.front().map(|(until, _)| *until);
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.say(message),
                    None => return,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.end_quiet(),
            }
        }
    }

    fn say(&mut self, message: (Partition, String)) {
        if let Some(again) = self.said.get_mut(&message) {
            *again = true;
            return;
        }
        self.send(&message);
        self.said.insert(message.clone(), false);
        self.quiet.push_back((Instant::now() + QUIET, message));
    }

    fn end_quiet(&mut self) {
        let now = Instant::now();
        while let Some((until, _)) = self.quiet.front()
            && *until <= now
            && let Some((_, message)) = self.quiet.pop_front()
        {
            match self.said.get_mut(&message) {
                Some(again) if *again => {
                    *again = false;
                    self.send(&message);
                    self.quiet.push_back((now + QUIET, message));
                }
                _ => drop(self.said.remove(&message)),
            }
        }
    }

    fn send(&self, (partition, text): &(Partition, String)) {
        let channel = self.channels[usize::from(partition.number())].clone();
        let args = smallvec![Bytes::from_static(b"PUBLISH"), channel.into(), text.clone().into()];
        let work = Work::Command { operation: "publish", args };
        // Refused while Redis is away: then nobody hears, and all wake after the reconnect.
        let _ = self.lane.submit(Job::unattended(work));
    }
}

//! Operator events: what `webhook.opsUrl` is told. They go through the same outbox as results.

use bytes::Bytes;
use serde::Serialize;

use crate::app::App;
use crate::model::delivery::{Delivery, DeliveryId};
use crate::model::{Partition, TaskId, Time, record};

/// An event as the script takes it that makes it happen; all empty for none.
#[derive(Clone, Default, Debug)]
pub struct Event {
    /// Name of the delivery.
    pub delivery: String,
    /// Where it goes.
    pub destination: String,
    /// Its record.
    pub record: Bytes,
}

#[derive(Serialize)]
struct Body<'a, F> {
    r#type: &'a str,
    // The node's clock: the body is made before the script runs, and stays as it is.
    timestamp: Time,
    #[serde(flatten)]
    fields: &'a F,
}

/// An event of this kind, to be written by a script on `partition`. `None` when nobody wants to hear
/// of it, or when it is about the very destination that it would go to.
pub fn event<F: Serialize>(
    app: &App,
    partition: Partition,
    kind: &str,
    about: &str,
    fields: &F,
) -> Option<Event> {
    let destination = destination(app).filter(|destination| destination != about)?;
    let now = jiff::Timestamp::now().as_millisecond();
    let task = TaskId::new(partition, now.unsigned_abs());
    let body = Body { r#type: kind, timestamp: Time::from_ms(now), fields };
    let body = serde_json::to_vec(&body).expect("names and numbers are JSON");
    Some(Event {
        delivery: DeliveryId { task, n: 1 }.short(),
        record: Delivery::event(&destination, &body).into(),
        destination,
    })
}

/// The destination of operator events, when there is one.
pub fn destination(app: &App) -> Option<String> {
    let url = app.settings.webhook.ops_url.as_ref()?;
    Some(record::operator_destination_digest(url.origin()))
}

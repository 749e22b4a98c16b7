//! Time waited at the named wait points, as the profile that Go calls `block`: one function for each
//! point, how often it was waited for and how long, in
//! [the format of pprof](https://github.com/google/pprof/blob/main/proto/profile.proto).

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use pprof::protos::{Function, Line, Location, Message as _, Profile, Sample, ValueType};

use super::capture::{Refused, Seconds, file};
use crate::telemetry::Waits;
use crate::telemetry::waits::Waited;

/// `GET /debug/pprof/block`, `/debug/pprof/mutex`. Counts are always there, so nothing is captured
/// and several may look at once.
pub(super) async fn profile(
    State(waits): State<Waits>,
    seconds: Seconds,
) -> Result<Response, Refused> {
    let (since, waited) = match seconds.asked() {
        None => (None, waits.so_far()),
        Some(length) => {
            let before = waits.so_far();
            tokio::time::sleep(length).await;
            (Some(length), difference(&before, waits.so_far()))
        }
    };
    let bytes = of(&waited, since).write_to_bytes().map_err(Refused::failed)?;
    Ok(file("block.pb", bytes))
}

/// What was waited between two looks.
fn difference(before: &[Waited], mut after: Vec<Waited>) -> Vec<Waited> {
    for (after, before) in after.iter_mut().zip(before) {
        after.contentions -= before.contentions;
        after.delay = after.delay.saturating_sub(before.delay);
    }
    after
}

/// The profile: a sample, a location and a function for each point where something was waited.
fn of(waited: &[Waited], length: Option<Duration>) -> Profile {
    let mut texts = Texts::default();
    let contentions = value_type(&mut texts, "contentions", "count");
    let delay = value_type(&mut texts, "delay", "nanoseconds");
    let mut profile = Profile {
        sample_type: vec![contentions.clone(), delay.clone()],
        default_sample_type: delay.ty,
        period_type: Some(contentions).into(),
        period: 1,
        duration_nanos: nanoseconds(length.unwrap_or_default()),
        time_nanos: jiff::Timestamp::now().as_nanosecond().try_into().unwrap_or_default(),
        ..Profile::default()
    };
    let something = waited.iter().filter(|at| at.contentions > 0 || !at.delay.is_zero());
    for (at, id) in something.zip(1..) {
        let name = texts.index(at.point.frame());
        profile.function.push(Function { id, name, system_name: name, ..Function::default() });
        let line = vec![Line { function_id: id, ..Line::default() }];
        profile.location.push(Location { id, line, ..Location::default() });
        let count = i64::try_from(at.contentions).unwrap_or(i64::MAX);
        let value = vec![count, nanoseconds(at.delay)];
        profile.sample.push(Sample { location_id: vec![id], value, ..Sample::default() });
    }
    profile.string_table = texts.0;
    profile
}

fn value_type(texts: &mut Texts, ty: &str, unit: &str) -> ValueType {
    ValueType { ty: texts.index(ty), unit: texts.index(unit), ..ValueType::default() }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Every text of a profile, each named by its place. The first is the empty one.
struct Texts(Vec<String>);

impl Default for Texts {
    fn default() -> Self {
        Self(vec![String::new()])
    }
}

impl Texts {
    /// The place of a text that is not there yet.
    fn index(&mut self, text: &str) -> i64 {
        self.0.push(text.to_owned());
        i64::try_from(self.0.len() - 1).expect("there are few points")
    }
}

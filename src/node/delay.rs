//! How long a task of the runtime waits until a thread takes it.

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::telemetry::Metrics;

/// Between two measurements.
const PERIOD: Duration = Duration::from_millis(250);

/// Measures from a thread of its own, as a request comes from outside, as long as `alive` is held
/// anywhere: a thread that is busy or blocked delays what waits for it, and this sees it.
pub(super) fn probe(metrics: Metrics, alive: Weak<()>) -> std::io::Result<()> {
    let runtime = Handle::current();
    let measure = move || {
        while alive.strong_count() > 0 {
            let (metrics, handed_in) = (metrics.clone(), Instant::now());
            runtime.spawn(async move {
                metrics.runtime_scheduling_delay.observe(handed_in.elapsed().as_secs_f64());
            });
            std::thread::sleep(PERIOD);
        }
    };
    std::thread::Builder::new().name("codeq-delay".to_owned()).spawn(measure).map(drop)
}

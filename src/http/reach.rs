//! How this room sees the [`App`].

use super::{Context, Error, Limited};
use crate::app::{App, NotTaken};
use crate::auth::Auth;
use crate::telemetry::Metrics;

impl Context for App {
    fn auth(&self) -> &Auth {
        &self.auth
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn max_body_bytes(&self) -> usize {
        self.settings.limits.max_body_bytes
    }

    fn keeps_baggage(&self) -> bool {
        self.settings.tracing.propagate_baggage
    }

    fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }
}

impl From<NotTaken> for Error {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Empty { scope, operation, retry_after_seconds } => {
                Self::RateLimited(Limited { scope, operation, retry_after_seconds })
            }
            NotTaken::Store(error) => error.into(),
        }
    }
}

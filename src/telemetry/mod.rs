//! Metrics, logs and traces.

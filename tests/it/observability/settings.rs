//! Settings of tracing from four sources.

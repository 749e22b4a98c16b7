//! Spans, as a collector receives them.

//! Extractors, middleware, and the one table from error to answer.

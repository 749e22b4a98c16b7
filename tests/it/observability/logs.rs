//! Lines of the log.

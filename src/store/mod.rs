//! Links to Redis, gathered calls, wake-ups.

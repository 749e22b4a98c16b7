//! `docs/http-api.md`, group by group.

mod producer;

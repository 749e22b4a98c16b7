//! `GET /metrics`: how it is written, what a request, a background loop and the process leave in
//! it, and what a Prometheus makes of it.

mod format;
mod machine;
mod page;
mod requests;
mod scraped;

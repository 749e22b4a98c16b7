//! Settings: parsed, validated and shown.
//!
//! Layers in rising precedence: `defaults.yaml` beside this file, a YAML file, the environment.
//! Everything is checked once, at start; every problem is told in one message.

mod auth;
mod docs;
mod keys;
mod layers;
mod load;
mod otlp;
mod provider;
mod read;
mod redis;
mod report;
mod secret;
mod settings;
mod show;
mod tracing;
mod webhook;

pub use auth::{Auth, Jwks, Provider, StaticToken};
pub use docs::reference;
pub use layers::Sources;
pub use load::load;
pub use redis::{Durability, Redis, RedisScheme, RedisUrl};
pub use report::{Problem, Problems};
pub use secret::SecretUrl;
pub use settings::{
    Backoff, BackoffPolicy, Bucket, Env, Limits, Log, LogFormat, MetricsSettings, RateLimits,
    Settings, Shutdown, Subscriptions, Tasks,
};
pub use show::show;
pub use tracing::{Compression, OtlpEndpoint, OtlpProtocol, Sampler, TraceExporter, Tracing};
pub use webhook::{SecretScope, Webhook};

#[cfg(test)]
mod tests;

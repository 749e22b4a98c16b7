//! Settings: parsed, validated and shown.
//!
//! Layers in rising precedence: `defaults.yaml` beside this file, a YAML file, the environment.
//! Everything is checked once, at start; every problem is told in one message.

mod auth;
mod redis;
mod secret;
mod settings;
mod tracing;
mod webhook;

pub use auth::{Auth, Jwks, Provider, StaticToken};
pub use redis::{Durability, Redis, RedisScheme, RedisUrl};
pub use secret::SecretUrl;
pub use settings::{
    Backoff, BackoffPolicy, Bucket, Env, Limits, Log, LogFormat, MetricsSettings, RateLimits,
    Settings, Shutdown, Subscriptions, Tasks,
};
pub use tracing::{Compression, OtlpEndpoint, OtlpProtocol, Sampler, TraceExporter, Tracing};
pub use webhook::{SecretScope, Webhook};

//! Which Redis holds a partition, and how to reach it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisError,
};

use super::Library;
use crate::config::{self, RedisScheme};
use crate::model::Partition;

/// After so long without a word the system asks a silent peer whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Requests that the client hands to its socket task at once; lanes send at most two each.
const SOCKET_QUEUE: usize = 64;

/// What the store is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Redis is.
    pub address: ConnectionInfo,
    /// Connections of the pool for rare work.
    pub pool_size: usize,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for the answer to one call.
    pub command_timeout: Duration,
    /// Above this share of `maxmemory` the store calls itself nearly full.
    pub soft_memory_ratio: f64,
    /// The modules of scripts; a test replaces some.
    pub library: Library,
}

impl Options {
    /// From the settings. The error is a sentence for the operator.
    pub fn new(settings: &config::Redis) -> Result<Self, String> {
        match settings.url.scheme() {
            RedisScheme::Plain | RedisScheme::Unix => {}
            other => {
                return Err(format!("redis.url: {}:// is not supported yet", other.as_str()));
            }
        }
        if settings.durability != config::Durability::Async {
            let mode = settings.durability.as_str();
            return Err(format!("redis.durability: `{mode}` is not supported yet, use `async`"));
        }
        // The error of the client may quote the URL, and the URL may hold a password.
        let address = settings
            .url
            .expose()
            .into_connection_info()
            .map_err(|_| "redis.url: the client cannot read it".to_owned())?;
        Ok(Self {
            address,
            pool_size: settings.pool_size,
            connect_timeout: settings.connect_timeout,
            command_timeout: settings.command_timeout,
            soft_memory_ratio: settings.soft_memory_ratio,
            library: Library::default(),
        })
    }

    /// The address with the socket options that the client leaves off: without `TCP_NODELAY` a
    /// call can wait 40 ms for an acknowledgement.
    pub(super) fn tuned_address(&self) -> ConnectionInfo {
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        // Keepalive says nothing while something sent waits for its acknowledgement.
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(KEEPALIVE);
        self.address.clone().set_tcp_settings(tcp)
    }
}

/// Which primaries there are and which of them holds a partition. One Redis is one primary with
/// every partition; Sentinel will change its address, Cluster will have several.
#[derive(Clone, Debug)]
pub(super) enum Topology {
    Single(Primary),
}

/// One Redis that takes writes.
#[derive(Clone, Debug)]
pub(super) struct Primary {
    client: Client,
    connect_timeout: Duration,
}

impl Topology {
    pub(super) fn new(options: &Options) -> Self {
        let address = options.tuned_address();
        // RESP3 brings messages and the news of a lost connection on the same connection.
        let redis = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(address.set_redis_settings(redis))
            .expect("opening a client only copies the address");
        Self::Single(Primary { client, connect_timeout: options.connect_timeout })
    }

    /// Every primary; [`Self::of`] is an index into it.
    pub(super) fn primaries(&self) -> Vec<Primary> {
        match self {
            Self::Single(primary) => vec![primary.clone()],
        }
    }

    /// The primary of a partition.
    pub(super) fn of(&self, _: Partition) -> usize {
        match self {
            Self::Single(_) => 0,
        }
    }
}

impl Primary {
    /// Opens a connection and sees it answer. Replies have no time limit of the client's: lanes
    /// keep the time, so that the late answer to a claim is still read.
    pub(super) async fn dial(
        &self,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(SOCKET_QUEUE)
            .set_push_sender(move |push| {
                pushed(push);
                Ok::<(), redis::aio::SendError>(())
            });
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let ping = redis::cmd("PING");
        let answer = ping.query_async::<String>(&mut connection);
        match tokio::time::timeout(self.connect_timeout, answer).await {
            Ok(answer) => answer.map(|_| connection),
            Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
        }
    }
}

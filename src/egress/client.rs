//! One attempt: a POST with a budget.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, Request, Response, redirect, tls};
use tokio::time::{Instant, timeout};

use super::fault::{self, Way};
use super::resolver::{Guard, SystemLookup, Unresolved};
use super::{Attempt, Lookup, MAX_EXCERPT, Outcome, Rules, Signer, Target};
use crate::config;

/// Most bytes of an answer's body that are read. One that ends within them leaves its connection
/// for the next delivery.
const MAX_READ: usize = 64 * 1024;

/// How long an answer's body is read, behind the status line that has decided already.
const READ_WITHIN: Duration = Duration::from_secs(1);

/// How long a connection waits for the next delivery to the same host.
const IDLE_WITHIN: Duration = Duration::from_secs(30);

/// How much of an answer may be on its way to us unread, over HTTP/2.
const HTTP2_WINDOW: u32 = MAX_READ as u32;

/// How a node sends to receivers. Cheap to clone.
#[derive(Clone)]
pub struct Egress(Arc<Inner>);

struct Inner {
    client: Client,
    guard: Guard,
    signer: Signer,
    timeout: Duration,
    proxied: bool,
}

impl Egress {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// When the file of further authorities cannot be read or is none.
    pub fn new(settings: &config::Webhook) -> anyhow::Result<Self> {
        Self::with_lookup(settings, Arc::new(SystemLookup))
    }

    /// The same with a look-up of one's own.
    ///
    /// # Errors
    /// As [`Egress::new`].
    pub fn with_lookup(
        settings: &config::Webhook,
        lookup: Arc<dyn Lookup>,
    ) -> anyhow::Result<Self> {
        let proxy = settings.proxy_url.as_ref().map(config::SecretUrl::expose);
        let proxy_host = proxy.as_ref().and_then(url::Url::host_str);
        let guard = Guard::new(Rules::new(settings), lookup, proxy_host);
        Ok(Self(Arc::new(Inner {
            client: client(settings, &guard)?,
            guard,
            signer: Signer::new(settings),
            timeout: settings.timeout,
            proxied: proxy.is_some(),
        })))
    }

    /// Where receivers may be.
    pub fn rules(&self) -> &Rules {
        &self.0.guard.rules
    }

    /// Who signs.
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// Sends once. The status line decides; what the body does later changes nothing.
    pub async fn post(&self, target: &Target, headers: HeaderMap, body: Bytes) -> Attempt {
        let started = Instant::now();
        if self.0.guard.refuses_literally(target) {
            return Attempt::failed(Outcome::Blocked { literal: true }, started.elapsed());
        }
        let answer = timeout(self.0.timeout, self.0.answer(target, headers, body)).await;
        let duration = started.elapsed();
        match answer {
            Err(_) => Attempt::failed(Outcome::Timeout, duration),
            Ok(Err(outcome)) => Attempt::failed(outcome, duration),
            Ok(Ok(Answer { response, from_public })) => {
                let mut attempt =
                    Attempt::answered(response.status(), response.headers(), duration);
                attempt.excerpt = read(response, from_public).await;
                attempt
            }
        }
    }
}

/// An answer whose body was not read yet.
struct Answer {
    response: Response,
    /// Whether it came from where anybody may ask: only then may a tenant see any of it.
    from_public: bool,
}

impl Inner {
    async fn answer(
        &self,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Outcome> {
        let way = Way { secure: target.url().scheme() == "https", proxied: self.proxied };
        let behind_proxy = if self.proxied { Some(self.check(target).await?) } else { None };

        let mut request = Request::new(Method::POST, target.url().clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(body.into());
        let response = self
            .client
            .execute(request)
            .await
            .map_err(|error| fault::class(&error.without_url(), way))?;

        let asks_us_to_log_in = response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        if self.proxied && asks_us_to_log_in && !way.secure {
            return Err(Outcome::Proxy);
        }
        let connected = || response.remote_addr().is_some_and(|at| Rules::is_public(at.ip()));
        let from_public = behind_proxy.unwrap_or_else(connected);
        Ok(Answer { response, from_public })
    }

    /// A proxy connects by itself, so what it is asked for is checked before. True when all
    /// addresses are public.
    async fn check(&self, target: &Target) -> Result<bool, Outcome> {
        match self.guard.allowed(target.host()).await {
            Ok(addresses) => Ok(addresses.into_iter().all(Rules::is_public)),
            Err(Unresolved::Blocked) => Err(Outcome::Blocked { literal: false }),
            Err(_) => Err(Outcome::Dns),
        }
    }
}

/// Reads a body as far as is good for anybody, and keeps its beginning.
async fn read(mut response: Response, keep: bool) -> Option<Vec<u8>> {
    let most_kept = if keep { MAX_EXCERPT } else { 0 };
    if response.content_length() == Some(0) {
        return None;
    }
    let too_long = response.content_length().is_some_and(|length| length > MAX_READ as u64);
    let mut kept = Vec::new();
    let reading = async {
        let mut left = MAX_READ;
        // A body that is too long costs its connection anyway: it need not be read.
        while left > 0 && !(too_long && kept.len() == most_kept) {
            let Ok(Some(chunk)) = response.chunk().await else { break };
            let piece = chunk.len().min(most_kept - kept.len());
            kept.extend_from_slice(&chunk[..piece]);
            left = left.saturating_sub(chunk.len());
        }
    };
    // In time or not, what is there is kept.
    let _ = timeout(READ_WITHIN, reading).await;
    // The client puts the connection back in a task of its own. Without its turn, the next delivery
    // to this host would not find it and open another.
    tokio::task::yield_now().await;
    (!kept.is_empty()).then_some(kept)
}

/// The one client of a node.
fn client(settings: &config::Webhook, guard: &Guard) -> anyhow::Result<Client> {
    let authorities = authorities(settings)?;
    if !authorities.is_empty() {
        let client = builder(settings, guard)?.tls_certs_merge(authorities);
        return Ok(client.build()?);
    }
    builder(settings, guard)?.build().or_else(|error| {
        // A small image may have no root certificates, and receivers without TLS all the same.
        let error = error.without_url();
        tracing::warn!(
            target: "codeq::egress", category = "system", event = "egress.no_authorities",
            error.message = %error, "no certificate authorities: https receivers cannot be reached"
        );
        Ok(builder(settings, guard)?.tls_certs_only([]).build()?)
    })
}

fn builder(settings: &config::Webhook, guard: &Guard) -> anyhow::Result<ClientBuilder> {
    let mut client = Client::builder()
        // A redirect or a variable would lead around the rules.
        .redirect(redirect::Policy::none())
        .no_proxy()
        .dns_resolver(guard.clone())
        // Another crate may switch these features on; a small answer must not become a large one.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .referer(false)
        .tls_version_min(tls::Version::TLS_1_2)
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(HTTP2_WINDOW)
        .pool_idle_timeout(IDLE_WITHIN)
        .pool_max_idle_per_host(settings.max_concurrency_per_host);
    if let Some(url) = &settings.proxy_url {
        let proxy = Proxy::all(url.expose()).map_err(reqwest::Error::without_url)?;
        client = client.proxy(proxy);
    }
    Ok(client)
}

/// The certificates of `webhook.extraCaFile`.
fn authorities(settings: &config::Webhook) -> anyhow::Result<Vec<Certificate>> {
    let Some(file) = &settings.extra_ca_file else { return Ok(Vec::new()) };
    let setting = || format!("webhook.extraCaFile ({})", file.display());
    let pem = std::fs::read(file).with_context(setting)?;
    let certificates = Certificate::from_pem_bundle(&pem).with_context(setting)?;
    anyhow::ensure!(!certificates.is_empty(), "{}: no certificate in it", setting());
    Ok(certificates)
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("rules", self.rules())
            .field("signer", self.signer())
            .finish_non_exhaustive()
    }
}

//! An identity provider: a key made on the spot, and its JWKS endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::Router;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Issues tokens of `https://issuer.test` for the audience `codeq`.
pub struct Idp {
    key: Ed25519KeyPair,
    url: String,
    fetched: Arc<AtomicUsize>,
    server: tokio::task::JoinHandle<()>,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Idp {
    pub async fn start() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let x = encode(key.public_key());
        let keys = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k1", "use": "sig"},
        ]});
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = fetched.clone();
        let router = Router::new().route(
            "/keys",
            get(move || {
                count.fetch_add(1, Ordering::Relaxed);
                std::future::ready(keys.to_string())
            }),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        Self { key, url, fetched, server }
    }

    /// The configuration of a `jwks` provider.
    pub fn provider(&self) -> Value {
        json!({"jwksUrl": self.url, "issuer": "https://issuer.test", "audience": "codeq"})
    }

    /// How often the keys were fetched.
    pub fn fetched(&self) -> usize {
        self.fetched.load(Ordering::Relaxed)
    }

    /// A token with these claims beside issuer, audience and an end in an hour.
    pub fn token(&self, claims: Value) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut all = json!({
            "iss": "https://issuer.test", "aud": "codeq", "iat": now, "exp": now + 3600,
        });
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.signed(json!({"alg": "EdDSA", "kid": "k1"}), &all)
    }

    /// A token with this header and exactly these claims.
    pub fn signed(&self, header: Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.key.sign(message.as_bytes());
        format!("{message}.{}", encode(signature))
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        self.server.abort();
    }
}

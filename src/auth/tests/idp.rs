//! An identity provider for tests: keys made on the spot, and an HTTP endpoint that can fail.

use std::convert::Infallible;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use url::Url;

pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

enum Secret {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair, &'static str),
    Ed(Ed25519KeyPair),
}

/// A key pair with an id.
pub struct Signer {
    pub kid: &'static str,
    secret: Secret,
}

impl Signer {
    pub fn rsa(kid: &'static str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        Self { kid, secret: Secret::Rsa(Box::new(pair)) }
    }

    pub fn p256(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { kid, secret: Secret::Ec(pair, "P-256") }
    }

    pub fn p384(kid: &'static str) -> Self {
        let pair = EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        Self { kid, secret: Secret::Ec(pair, "P-384") }
    }

    pub fn ed(kid: &'static str) -> Self {
        Self { kid, secret: Secret::Ed(Ed25519KeyPair::generate().unwrap()) }
    }

    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.secret {
            Secret::Rsa(_) => {
                let (n, e) = self.rsa_numbers();
                json!({"kty": "RSA", "n": encode(n), "e": encode(e)})
            }
            Secret::Ec(pair, crv) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({"kty": "EC", "crv": crv, "x": encode(x), "y": encode(y)})
            }
            Secret::Ed(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key())})
            }
        };
        jwk["kid"] = self.kid.into();
        jwk["use"] = "sig".into();
        jwk
    }

    /// Modulus and exponent of the public key.
    pub fn rsa_numbers(&self) -> (Vec<u8>, Vec<u8>) {
        let Secret::Rsa(pair) = &self.secret else { panic!("not an RSA key") };
        let numbers = signature::RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        (numbers.n, numbers.e)
    }

    /// The usual algorithm of this key.
    pub fn alg(&self) -> &'static str {
        match &self.secret {
            Secret::Rsa(_) => "RS256",
            Secret::Ec(_, "P-256") => "ES256",
            Secret::Ec(..) => "ES384",
            Secret::Ed(_) => "EdDSA",
        }
    }

    pub fn token(&self, claims: &Value) -> String {
        self.token_as(json!({"alg": self.alg(), "kid": self.kid}), claims)
    }

    /// A token with this header, signed as its `alg` says or, when this key cannot, as it can.
    pub fn token_as(&self, header: Value, claims: &Value) -> String {
        let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", encode(signature))
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match alg {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
            Secret::Ec(pair, _) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Secret::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// What the endpoint does next.
#[derive(Clone)]
pub enum Answer {
    Keys(Vec<Value>),
    Status(u16),
    Text(&'static str),
    Endless,
    Never,
    Elsewhere(Url),
}

/// A JWKS endpoint on loopback.
pub struct Idp {
    pub url: Url,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
    /// Bytes of endless answers that found a reader.
    pub sent: Arc<AtomicUsize>,
}

impl Idp {
    pub async fn start(signers: &[&Signer]) -> Self {
        let answer = Arc::new(Mutex::new(Answer::Status(404)));
        let requests = Arc::new(AtomicUsize::new(0));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let sent = Arc::new(AtomicUsize::new(0));
        let (next, counted, pieces) = (answer.clone(), requests.clone(), sent.clone());
        let app = Router::new().route(
            "/keys",
            get(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                let next = next.lock().unwrap().clone();
                respond(next, pieces.clone())
            }),
        );
        tokio::spawn(async { axum::serve(listener, app).await.unwrap() });
        let idp = Self { url, answer, requests, sent };
        idp.publishes(signers);
        idp
    }

    pub fn publishes(&self, signers: &[&Signer]) {
        self.answers(Answer::Keys(signers.iter().map(|signer| signer.jwk()).collect()));
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Bytes in one piece of an endless answer.
const CHUNK: usize = 64 * 1024;

async fn respond(answer: Answer, sent: Arc<AtomicUsize>) -> Response<Body> {
    match answer {
        Answer::Keys(keys) => Response::new(json!({ "keys": keys }).to_string().into()),
        Answer::Text(text) => Response::new(text.into()),
        Answer::Status(status) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response
        }
        Answer::Endless => {
            let spaces = std::iter::repeat_with(move || {
                sent.fetch_add(CHUNK, Ordering::SeqCst);
                Ok::<_, Infallible>(vec![b' '; CHUNK])
            });
            Response::new(Body::from_stream(futures_util::stream::iter(spaces)))
        }
        Answer::Never => pending().await,
        Answer::Elsewhere(url) => {
            { Response::builder().status(302).header("location", url.as_str()).body(Body::empty()) }
                .unwrap()
        }
    }
}

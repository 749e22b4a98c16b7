//! A request as it came, and whether its signatures hold.

use std::time::{Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// One request that a receiver took.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub time: SystemTime,
    /// Which connection brought it; a number is given once in a process.
    pub connection: usize,
    /// Request line and headers, as they came.
    pub head: Bytes,
    pub body: Bytes,
    /// The status it was answered with, once the whole answer, or the status line of one that does
    /// not end, was handed to the network.
    pub answered: Option<u16>,
    /// Nothing more is said about it.
    pub is_over: bool,
}

/// The keys of both signatures.
#[derive(Clone)]
pub struct Keys {
    pub(super) codeq: Vec<u8>,
    pub(super) standard: Vec<u8>,
}

impl Request {
    pub(super) fn now(head: Bytes, body: Bytes, connection: usize) -> Self {
        let (at, time) = (Instant::now(), SystemTime::now());
        Self { at, time, connection, head, body, answered: None, is_over: false }
    }

    /// One that never came, with these headers.
    pub fn by_hand(headers: &[(&'static str, String)], body: &str) -> Self {
        let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("POST /hook HTTP/1.1\r\n{}\r\n", lines.collect::<String>());
        Self::now(head.into(), body.to_owned().into(), 0)
    }

    /// `POST /hook HTTP/1.1`
    pub fn line(&self) -> &str {
        self.text().lines().next().unwrap()
    }

    /// `/hook?x=1`
    pub fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// A header that comes at most once, as far as one is looked for.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        header_of(&self.head, name)
    }

    /// Every header as it came, names in lower case.
    pub fn headers(&self) -> http::HeaderMap {
        let lines = self.text().lines().skip(1).filter_map(|line| line.split_once(':'));
        let name = |name: &str| name.parse::<http::HeaderName>().unwrap();
        lines.map(|(key, value)| (name(key), value.trim().parse().unwrap())).collect()
    }

    /// `<taskId>_<n>`; panics when the request carries none.
    #[track_caller]
    pub fn webhook_id(&self) -> &str {
        self.header("webhook-id").unwrap_or_else(|| panic!("no webhook-id: {}", self.text()))
    }

    /// The task it is about.
    pub fn task_id(&self) -> String {
        self.json()["taskId"].as_str().expect("the body names its task").to_owned()
    }

    /// The number of the attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.header("x-codeq-attempt").expect("X-CodeQ-Attempt").parse().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Whether it was answered with a 2xx.
    pub fn is_accepted(&self) -> bool {
        self.answered.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether both signatures are made with these keys, by libraries that the broker does not use
    /// for it.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn verify(&self, keys: &Keys) -> Result<(), String> {
        let part = |name| self.header(name).ok_or_else(|| format!("no {name}"));
        let signature = part("x-codeq-signature")?;
        let bytes = unhex(signature).ok_or_else(|| format!("not lower-case hex: {signature}"))?;
        let signed = [part("x-codeq-timestamp")?.as_bytes(), b".", &self.body].concat();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &keys.codeq);
        aws_lc_rs::hmac::verify(&key, &signed, &bytes).map_err(|_| "X-CodeQ-Signature is wrong")?;
        let standard = standardwebhooks::Webhook::from_bytes(keys.standard.clone());
        let verified = standard.map(|webhook| webhook.verify(&self.body, &self.headers()));
        verified.and_then(|verdict| verdict).map_err(|error| format!("webhook-signature: {error}"))
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.head).expect("a head is text")
    }
}

impl Keys {
    /// Of a secret as the operator configured it.
    pub fn of(secret: &str) -> Self {
        let standard = match secret.strip_prefix("whsec_") {
            Some(rest) => STANDARD.decode(rest).expect("base64 after whsec_"),
            None => secret.as_bytes().to_vec(),
        };
        Self { codeq: secret.as_bytes().to_vec(), standard }
    }

    /// Of a tenant, as `GET /admin/webhook-secret` shows its key: it makes both signatures.
    pub fn of_tenant(shown: &str) -> Self {
        let key = STANDARD.decode(shown.strip_prefix("whsec_").expect("whsec_")).unwrap();
        Self { codeq: key.clone(), standard: key }
    }

    /// The headers of a delivery, signed by hand; among the signatures one of another version and
    /// one of another key.
    pub fn sign(&self, id: &str, time: u64, body: &str) -> Vec<(&'static str, String)> {
        let codeq = mac(&self.codeq, &format!("{time}.{body}"));
        let standard = STANDARD.encode(mac(&self.standard, &format!("{id}.{time}.{body}")));
        let other = STANDARD.encode(mac(b"another key", body));
        vec![
            ("X-CodeQ-Timestamp", time.to_string()),
            ("X-CodeQ-Signature", codeq.iter().map(|byte| format!("{byte:02x}")).collect()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", time.to_string()),
            ("webhook-signature", format!("v1a,{other} v1,{other} v1,{standard}")),
        ]
    }
}

/// The value of the only header of this name.
#[track_caller]
pub fn header_of<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let lines = std::str::from_utf8(head).expect("a head is text").lines().skip(1);
    let mut values = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim());
    let first = values.next();
    assert!(values.next().is_none(), "{name} comes twice");
    first
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
    aws_lc_rs::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    text.as_bytes().chunks(2).map(pair).collect()
}

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// A URL that may hold credentials, in its user info, path or query: printed as its origin only.
#[derive(Clone)]
pub struct SecretUrl {
    text: SecretString,
    origin: String,
}

impl SecretUrl {
    /// Of a URL that was checked.
    pub fn new(url: &Url) -> Self {
        let mut origin = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            origin.push_str(&format!(":{port}"));
        }
        Self { text: url.as_str().to_owned().into(), origin }
    }

    /// All of it: never for a log line.
    pub fn expose(&self) -> Url {
        Url::parse(self.text.expose_secret()).expect("this text was made by a Url")
    }

    /// Scheme, host and port: what may be printed.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.origin)
    }
}

//! Callers of the API: one value per token, a call is awaited.

use std::future::IntoFuture;
use std::pin::Pin;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Who calls, and where.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// `http://127.0.0.1:1234`
    pub origin: String,
    token: Option<String>,
}

/// A call that is being put together; `.await` sends it.
pub struct Call(reqwest::RequestBuilder);

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub version: reqwest::Version,
}

/// A client for plain HTTP: no certificates are loaded, no proxy of the environment is asked.
pub fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().tls_certs_only([])
}

impl Client {
    /// Calls without a token.
    pub fn anonymous(origin: &str) -> Self {
        Self { http: plain().build().unwrap(), origin: origin.to_owned(), token: None }
    }

    /// The same caller with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same caller over a transport of its own.
    pub fn over(&self, http: reqwest::ClientBuilder) -> Self {
        Self { http: http.build().unwrap(), ..self.clone() }
    }

    /// Any call. A path that begins with `//` is one outside of `/v1/codeq`, as `//healthz`.
    pub fn call(&self, method: &str, path: &str) -> Call {
        let url = match path.strip_prefix('/').filter(|rest| rest.starts_with('/')) {
            Some(outside) => format!("{}{outside}", self.origin),
            None => format!("{}/v1/codeq{path}", self.origin),
        };
        let call = self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), url);
        Call(match &self.token {
            Some(token) => call.bearer_auth(token),
            None => call,
        })
    }

    pub fn get(&self, path: &str) -> Call {
        self.call("GET", path)
    }

    pub fn post(&self, path: &str, body: Value) -> Call {
        self.call("POST", path).json(body)
    }

    pub fn put(&self, path: &str, body: Value) -> Call {
        self.call("PUT", path).json(body)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call("DELETE", path)
    }

    /// `POST` without a body.
    pub fn bare_post(&self, path: &str) -> Call {
        self.call("POST", path)
    }

    // Producers

    /// Creates a task as the body says.
    pub fn create(&self, body: Value) -> Call {
        self.post("/tasks", body)
    }

    /// Creates a task of this command with a small payload; the task.
    pub async fn created(&self, command: &str) -> Value {
        self.create(json!({"command": command, "payload": {"n": 1}})).await.json_of(202)
    }

    /// Creates a task as the body says; its id.
    pub async fn created_as(&self, body: Value) -> String {
        self.create(body).await.json_of(202)["id"].as_str().unwrap().to_owned()
    }

    // Workers

    /// Claims a task of this command, without waiting.
    pub fn claim(&self, command: &str) -> Call {
        self.claim_as(json!({"commands": [command]}))
    }

    /// Claims as the body says.
    pub fn claim_as(&self, body: Value) -> Call {
        self.post("/tasks/claim", body)
    }

    /// Claims a task that is there; the task.
    pub async fn claimed(&self, command: &str) -> Value {
        self.claim(command).await.json_of(200)
    }

    pub fn heartbeat(&self, id: &str) -> Call {
        self.bare_post(&format!("/tasks/{id}/heartbeat"))
    }

    pub fn abandon(&self, id: &str) -> Call {
        self.bare_post(&format!("/tasks/{id}/abandon"))
    }

    pub fn nack(&self, id: &str, body: Value) -> Call {
        self.post(&format!("/tasks/{id}/nack"), body)
    }

    pub fn submit(&self, id: &str, body: Value) -> Call {
        self.post(&format!("/tasks/{id}/result"), body)
    }

    /// Submits `COMPLETED` with a small result.
    pub fn complete(&self, id: &str) -> Call {
        self.submit(id, json!({"status": "COMPLETED", "result": {"ok": true}}))
    }

    /// Submits `FAILED`.
    pub fn fail(&self, id: &str, error: &str) -> Call {
        self.submit(id, json!({"status": "FAILED", "error": error}))
    }

    // Readers

    pub fn read(&self, id: &str) -> Call {
        self.get(&format!("/tasks/{id}"))
    }

    /// The task as it is now.
    pub async fn task(&self, id: &str) -> Value {
        self.read(id).await.json_of(200)
    }

    pub fn result(&self, id: &str) -> Call {
        self.get(&format!("/tasks/{id}/result"))
    }

    pub fn result_within(&self, id: &str, wait_seconds: u32) -> Call {
        self.get(&format!("/tasks/{id}/result?waitSeconds={wait_seconds}"))
    }

    pub fn timeline(&self, id: &str) -> Call {
        self.get(&format!("/tasks/{id}/timeline"))
    }

    // Administrators

    /// Ready, delayed, in progress and dead tasks of a queue.
    pub async fn counts(&self, command: &str) -> [u64; 4] {
        let queue = self.get(&format!("/admin/queues/{command}")).await.json_of(200);
        ["ready", "delayed", "inProgress", "dlq"].map(|state| queue[state].as_u64().unwrap())
    }
}

impl Call {
    /// Adds a header; a second of the same name stands beside the first.
    pub fn header(self, name: &str, value: &str) -> Self {
        Self(self.0.header(name, value))
    }

    /// Carries a lease token.
    pub fn lease(self, token: &Value) -> Self {
        self.header("X-CodeQ-Lease-Token", token.as_str().unwrap())
    }

    /// A JSON body.
    pub fn json(self, body: Value) -> Self {
        self.text(body.to_string())
    }

    /// A body byte for byte.
    pub fn text(self, body: impl Into<reqwest::Body>) -> Self {
        Self(self.0.body(body))
    }

    /// Sends it; the error of a connection that broke is a value.
    pub async fn sent(self) -> Result<Answer, reqwest::Error> {
        let response = self.0.send().await?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            version: response.version(),
            body: response.bytes().await?,
        })
    }
}

impl IntoFuture for Call {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.sent().await.expect("the node answers") })
    }
}

impl Answer {
    /// Status and body as a snapshot shows them: byte for byte, but a line for each field.
    pub fn shown(&self) -> String {
        format!("{} {}", self.status, lines(self.text()))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.shown()))
    }

    /// The body, if the status is this one.
    #[track_caller]
    pub fn json_of(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// A header that comes at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next().map(|value| value.to_str().unwrap());
        assert!(values.next().is_none(), "{name} comes twice");
        first
    }

    /// `409 not_in_progress not-in-progress`: status, code and text of an error, its detail after it.
    #[track_caller]
    pub fn refusal(&self) -> String {
        let body = self.json();
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", self.status, text("code"), text("error"))
    }

    /// Whether it repeats what an earlier call did.
    pub fn is_replayed(&self) -> bool {
        self.header("Idempotency-Replayed") == Some("true")
    }
}

/// Breaks JSON into lines at the commas of its outermost object or array.
fn lines(json: &str) -> String {
    let (mut out, mut depth, mut inside, mut escaped) = (String::new(), 0, false, false);
    for c in json.chars() {
        out.push(c);
        if inside {
            inside = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => inside = true,
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            ',' if depth == 1 => out.push('\n'),
            _ => {}
        }
    }
    out
}

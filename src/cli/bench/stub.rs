//! A node that keeps its tasks in memory: enough of the API to test the load, nothing more.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// A running stub; it ends with the test's runtime.
pub struct Stub {
    pub url: String,
    state: Shared,
}

type Shared = Arc<Mutex<Memory>>;

#[derive(Default)]
struct Memory {
    ready: BTreeMap<String, VecDeque<u64>>,
    leased: HashSet<u64>,
    created: u64,
    finished: u64,
    longest: usize,
    calls: u64,
    refuse_every: Option<u64>,
}

impl Stub {
    pub async fn start() -> Self {
        let state = Shared::default();
        let routes = Router::new()
            .route("/v1/codeq/tasks", post(create))
            .route("/v1/codeq/tasks/batch", post(create_batch))
            .route("/v1/codeq/tasks/claim", post(claim))
            .route("/v1/codeq/tasks/claim/batch", post(claim_batch))
            .route("/v1/codeq/tasks/{id}/result", post(submit))
            .route("/v1/codeq/tasks/batch/results", post(submit_batch))
            .layer(middleware::from_fn_with_state(state.clone(), admit))
            .route("/readyz", get(|| async { "{}" }))
            .route("/metrics", get(|| async { "process_cpu_seconds_total 1\n" }))
            .with_state(state.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, state }
    }

    /// Refuses every nth call, and every nth item of a batch, for now.
    pub fn refuse_every(&self, n: u64) {
        self.lock().refuse_every = Some(n);
    }

    pub fn created(&self) -> u64 {
        self.lock().created
    }

    pub fn finished(&self) -> u64 {
        self.lock().finished
    }

    /// Ready or leased.
    pub fn left(&self) -> usize {
        let memory = self.lock();
        memory.leased.len() + memory.ready.values().map(VecDeque::len).sum::<usize>()
    }

    /// The longest any queue has been.
    pub fn longest(&self) -> usize {
        self.lock().longest
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.state.lock().unwrap()
    }
}

async fn admit(
    State(state): State<Shared>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let known = ["Bearer dev-producer-token", "Bearer dev-worker-token"];
    if !headers.get("authorization").is_some_and(|token| known.iter().any(|t| token == t)) {
        return (StatusCode::UNAUTHORIZED, r#"{"error":"invalid token"}"#).into_response();
    }
    let refused = state.lock().unwrap().refuses();
    if refused {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

impl Memory {
    fn refuses(&mut self) -> bool {
        self.calls += 1;
        self.refuse_every.is_some_and(|n| self.calls.is_multiple_of(n))
    }

    fn create(&mut self, task: &Value) -> Value {
        assert_eq!(task["payload"].as_str().unwrap().len(), 254);
        self.created += 1;
        let queue = self.ready.entry(task["command"].as_str().unwrap().to_owned()).or_default();
        queue.push_back(self.created);
        self.longest = self.longest.max(queue.len());
        json!({"id": self.created.to_string()})
    }

    fn claim(&mut self, ask: &Value, count: usize) -> Vec<Value> {
        let queue = self.ready.entry(ask["commands"][0].as_str().unwrap().to_owned()).or_default();
        let ids: Vec<u64> = queue.drain(..count.min(queue.len())).collect();
        self.leased.extend(&ids);
        let task = |id: u64| json!({"id": id.to_string(), "leaseToken": format!("lease-{id}")});
        ids.into_iter().map(task).collect()
    }

    fn submit(&mut self, id: &str, verdict: &Value) -> Value {
        assert_eq!(verdict["leaseToken"], format!("lease-{id}"));
        assert!(self.leased.remove(&id.parse().unwrap()), "{id} is not in progress");
        self.finished += 1;
        json!({"taskId": id, "status": "COMPLETED"})
    }
}

async fn create(State(state): State<Shared>, Json(task): Json<Value>) -> impl IntoResponse {
    (StatusCode::ACCEPTED, Json(state.lock().unwrap().create(&task)))
}

async fn create_batch(State(state): State<Shared>, Json(ask): Json<Value>) -> Json<Value> {
    let mut memory = state.lock().unwrap();
    let tasks = ask["tasks"].as_array().unwrap();
    let results = tasks.iter().map(|task| match memory.refuses() {
        true => json!({"error": "store unavailable", "code": "store_unavailable"}),
        false => json!({"task": memory.create(task)}),
    });
    Json(json!({"results": results.collect::<Vec<_>>()}))
}

async fn claim(State(state): State<Shared>, Json(ask): Json<Value>) -> Response {
    match state.lock().unwrap().claim(&ask, 1).pop() {
        Some(task) => Json(task).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn claim_batch(State(state): State<Shared>, Json(ask): Json<Value>) -> Response {
    let count = usize::try_from(ask["count"].as_u64().unwrap()).unwrap();
    assert!((1..=10).contains(&count));
    match state.lock().unwrap().claim(&ask, count) {
        tasks if tasks.is_empty() => StatusCode::NO_CONTENT.into_response(),
        tasks => Json(json!({"tasks": tasks})).into_response(),
    }
}

async fn submit(
    State(state): State<Shared>,
    Path(id): Path<String>,
    Json(verdict): Json<Value>,
) -> Json<Value> {
    Json(state.lock().unwrap().submit(&id, &verdict))
}

async fn submit_batch(State(state): State<Shared>, Json(ask): Json<Value>) -> Json<Value> {
    let mut memory = state.lock().unwrap();
    let verdicts = ask["results"].as_array().unwrap();
    assert!(verdicts.len() <= 100);
    let results = verdicts.iter().map(|verdict| {
        let id = verdict["taskId"].as_str().unwrap();
        if memory.refuses() {
            return json!({"taskId": id, "error": "x", "code": "store_unavailable"});
        }
        json!({"taskId": id, "result": memory.submit(id, verdict)})
    });
    Json(json!({"results": results.collect::<Vec<_>>()}))
}

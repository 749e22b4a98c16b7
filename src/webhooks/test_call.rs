//! `POST /admin/webhooks/test`: one call to a receiver, to see whether it can be reached and
//! verifies.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::app::App;
use crate::egress::{Outcome, Target};
use crate::http::{self, Admin, Body, Error, params, responses};
use crate::model::Time;

/// Whom to call.
#[derive(Deserialize, ToSchema)]
#[schema(as = WebhookTestRequest)]
pub struct Request {
    /// http(s) URL, under the same rules as a task's.
    #[schema(max_length = 2048)]
    url: String,
}

/// What came of it: never anything of the answer's body.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookTestResponse)]
pub struct Response {
    /// It would have been a delivery.
    ok: bool,
    /// The receiver's; null without an answer.
    status: Option<u16>,
    /// Until the status line, or until it failed.
    duration_ms: u64,
    /// `2xx`, or the kind of failure.
    class: &'static str,
}

/// The body that is sent.
#[derive(Serialize)]
struct Test {
    r#type: &'static str,
    timestamp: Time,
}

/// One signed call of type `codeq.test`, through the same client and the same rules as deliveries.
#[utoipa::path(post, path = "/admin/webhooks/test", tag = "admin",
    params(params::OfTenant), request_body = Request,
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest, responses::RateLimited), security(("bearer" = [])))]
pub async fn test(
    State(app): State<App>,
    admin: Admin,
    Body(ask): Body<Request>,
) -> http::Result<Json<Response>> {
    let tenant = admin.tenant()?;
    let target = Target::parse(&ask.url, app.egress.rules())
        .map_err(|bad| Error::InvalidWebhookUrl(format!("url: {bad}").into()))?;
    app.take_for_test(tenant).await?;

    let now = Time::from_ms(jiff::Timestamp::now().as_millisecond());
    let body = serde_json::to_vec(&Test { r#type: "codeq.test", timestamp: now })
        .expect("two texts are JSON");
    let id = format!("test_{}", Uuid::now_v7());
    let mut headers = HeaderMap::new();
    let signer = app.egress.signer();
    signer.headers(Some(tenant.as_str()), &id, now.ms() / 1000, 1, &body, &mut headers);
    let attempt = app.egress.post(&target, headers, body.into()).await;

    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.webhook_tested",
        by = admin.subject.as_str(), tenant_id = tenant.as_str(), webhook.host = target.host(),
        class = attempt.outcome.class().as_str(), "a webhook was tested"
    );
    Ok(Json(Response {
        ok: attempt.outcome == Outcome::Success,
        status: attempt.status,
        duration_ms: u64::try_from(attempt.duration.as_millis()).unwrap_or(u64::MAX),
        class: attempt.outcome.class().as_str(),
    }))
}

//! `GET /admin/webhook-secret`: the keys with which receivers verify.

use axum::Json;
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response as HttpResponse};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Admin, params, responses};

/// What a receiver needs to verify `webhook-signature`.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookSecretResponse)]
pub struct Response {
    /// As libraries for Standard Webhooks take them; the first signs alone where there is room for
    /// one signature. Empty when nothing is signed.
    #[schema(max_items = 10)]
    keys: Vec<String>,
}

/// With one secret for all tenants, whoever sees it can sign for each of them: then only an operator
/// does.
#[utoipa::path(get, path = "/admin/webhook-secret", tag = "admin",
    params(params::OfTenant),
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn secret(State(app): State<App>, admin: Admin) -> http::Result<HttpResponse> {
    let signer = app.egress.signer();
    if signer.is_shared() {
        admin.must_be_operator()?;
    }
    let tenant = admin.tenant()?;
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.webhook_secret_read",
        by = admin.subject.as_str(), tenant_id = tenant.as_str(),
        "the keys that sign webhooks were read"
    );
    let keys = signer.keys_shown(tenant.as_str());
    Ok(([(CACHE_CONTROL, "no-store")], Json(Response { keys })).into_response())
}

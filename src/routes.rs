//! Every call there is, in the order of `docs/http-api.md`, and the column of middleware before them.

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::diagnostics::{self, Probes};
use crate::http;
use crate::{queues, subscriptions, tasks, topics, webhooks};

/// The whole service, ready to be served.
pub fn router(app: App, probes: Probes) -> Router {
    let api = api().layer(middleware::from_fn_with_state(app.clone(), let_in));
    let described = OpenApiRouter::new().nest("/v1/codeq", api);
    http::around(
        http::documented(described, diagnostics::described()).merge(diagnostics::routes(probes)),
        app,
    )
}

/// Nothing is done on a store that nobody has looked at.
async fn let_in(State(app): State<App>, request: Request, next: Next) -> http::Result<Response> {
    match app.is_open() {
        true => Ok(next.run(request).await),
        false => Err(http::Error::StoreUnavailable),
    }
}

fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(tasks::create::create))
        .routes(routes!(tasks::create::create_batch))
        .routes(routes!(tasks::claim::claim))
        .routes(routes!(tasks::claim::claim_batch))
        .routes(routes!(tasks::heartbeat::heartbeat))
        .routes(routes!(tasks::abandon::abandon))
        .routes(routes!(tasks::nack::nack))
        .routes(routes!(tasks::submit::submit, tasks::read::result))
        .routes(routes!(tasks::submit::submit_batch))
        .routes(routes!(subscriptions::upsert::subscribe))
        .routes(routes!(subscriptions::heartbeat::heartbeat_subscription))
        .routes(routes!(tasks::read::read))
        .routes(routes!(tasks::timeline::timeline))
        .routes(routes!(webhooks::of_task::webhook))
        .routes(routes!(tasks::cancel::cancel))
        .routes(routes!(queues::stats::queues))
        .routes(routes!(queues::stats::queue))
        .routes(routes!(queues::cleanup::cleanup))
        .routes(routes!(topics::policy::put, topics::policy::get, topics::policy::delete))
        .routes(routes!(queues::pause::pause))
        .routes(routes!(queues::pause::resume))
        .routes(routes!(queues::list::tasks))
        .routes(routes!(queues::dlq::requeue))
        .routes(routes!(queues::dlq::purge))
        .routes(routes!(tasks::cancel::cancel_as_admin))
        .routes(routes!(webhooks::list::list))
        .routes(routes!(webhooks::admin::get, webhooks::admin::delete))
        .routes(routes!(webhooks::admin::replay))
        .routes(routes!(webhooks::recover::recover))
        .routes(routes!(webhooks::recover::get, webhooks::recover::stop))
        .routes(routes!(webhooks::test_call::test))
        .routes(routes!(webhooks::secret::secret))
        .routes(routes!(webhooks::destinations::admin::list))
        .routes(routes!(webhooks::destinations::admin::limit))
        .routes(routes!(webhooks::destinations::admin::pause))
        .routes(routes!(webhooks::destinations::admin::resume))
        .routes(routes!(diagnostics::log_level::get, diagnostics::log_level::put))
}

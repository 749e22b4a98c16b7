//! `GET /openapi.json`: made from the routes, so that it cannot say anything else.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ErrorBody, ItemError};

/// The security scheme's name, for `security(("bearer" = []))` of an operation.
const BEARER: &str = "bearer";

/// The routes, and `/openapi.json` that describes them and itself.
pub fn documented<S: Clone + Send + Sync + 'static>(described: OpenApiRouter<S>) -> Router<S> {
    let (routes, mut document) = described.split_for_parts();
    document.merge(OpenApiRouter::<S>::new().routes(routes!(openapi)).into_openapi());
    complete(&mut document);
    let json = Bytes::from(document.to_json().expect("a document of strings and maps is JSON"));
    let answer = async move || ([(CONTENT_TYPE, "application/json")], json.clone());
    routes.route("/openapi.json", get(answer))
}

/// What no operation says by itself.
fn complete(document: &mut OpenApi) {
    document.info = InfoBuilder::new()
        .title("codeq")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("A task broker over HTTP: producers create, workers claim and submit."))
        .license(Some(LicenseBuilder::new().name(env!("CARGO_PKG_LICENSE")).build()))
        .build();
    let made = ComponentsBuilder::new()
        .schema(ErrorBody::name(), ErrorBody::schema())
        .schema(ItemError::name(), ItemError::schema())
        .security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .build();
    let known = document.components.get_or_insert_default();
    known.schemas.extend(made.schemas);
    known.security_schemes.extend(made.security_schemes);
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "node",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
async fn openapi() -> impl IntoResponse {
    // Only its description is used: the answer is made once, when all routes are known.
}

/// Errors that operations share, for their `responses(…)`.
pub mod responses {
    use std::collections::BTreeMap;

    use utoipa::openapi::header::HeaderBuilder;
    use utoipa::openapi::response::{Response, ResponseBuilder};
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    use utoipa::openapi::{ContentBuilder, Ref, RefOr};
    use utoipa::{IntoResponses, ToSchema as _};

    use super::ErrorBody;

    macro_rules! errors {
        ($($(#[$doc:meta])* $name:ident { $($status:literal = $says:literal),* $(,)? })*) => {$(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    [$(error($status, $says)),*].into()
                }
            }
        )*};
    }

    errors! {
        /// What every call with a token may answer.
        Authenticated {
            "401" = "No token, or not one of ours.",
            "403" = "The token does not allow it.",
            "408" = "The request did not arrive in time.",
            "413" = "The body is too large.",
            "500" = "A defect of the broker.",
            "503" = "The store does not answer; `code` says whether something may have been done.",
        }
        /// The request is not what the call takes.
        BadRequest { "400" = "Not what the call takes; `detail` names the field." }
        /// The object is not there, or another tenant's.
        NotFound { "404" = "There is no such object." }
        /// The state forbids it.
        Conflict { "409" = "The task's state forbids it." }
        /// A policy's value out of range.
        Unprocessable { "422" = "A value is out of range; `field` names it." }
        /// Too many calls.
        RateLimited { "429" = "Too many calls; wait as `Retry-After` says." }
    }

    fn error(status: &str, says: &str) -> (String, RefOr<Response>) {
        let schema = Ref::from_schema_name(ErrorBody::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let mut response =
            ResponseBuilder::new().description(says).content("application/json", content);
        if matches!(status, "429" | "503") {
            let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
            response =
                response.header("Retry-After", HeaderBuilder::new().schema(Some(seconds)).build());
        }
        (status.to_owned(), response.build().into())
    }
}

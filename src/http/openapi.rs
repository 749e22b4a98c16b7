//! `GET /openapi.json`: made from the routes, so that it cannot say anything else.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{ErrorBody, ItemError};

/// The security scheme's name, for `security(("bearer" = []))` of an operation.
const BEARER: &str = "bearer";

/// The routes, and `/openapi.json` that describes them, itself and `others`.
pub fn documented<S: Clone + Send + Sync + 'static>(
    described: OpenApiRouter<S>,
    others: OpenApi,
) -> Router<S> {
    let (routes, mut document) = described.split_for_parts();
    document.merge(others);
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

/// The names of commands: all characters but controls, and not only white space.
pub const COMMAND: &str = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$";

/// The schema of a list of commands, or null.
pub fn commands() -> Schema {
    let name =
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(COMMAND)).max_length(Some(256));
    ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(name)
        .max_items(Some(100))
        .description(Some(
            "At most 100; `[]`, null, absent and `[\"*\"]` mean all that the token allows.",
        ))
        .build()
        .into()
}

/// The schema of a moment, which may be empty or null as well as absent.
pub fn moment_or_blank() -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    AnyOfBuilder::new()
        .item(text().format(Some(format)))
        .item(text().max_length(Some(0)))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .description(Some("RFC 3339; null, empty and absent mean the same."))
        .build()
        .into()
}

/// The schema of a payload.
pub fn any_json_but_null() -> Schema {
    let types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(types))
        .description(Some("Any JSON but null, nested up to 128 deep; kept byte for byte."))
        .build()
        .into()
}

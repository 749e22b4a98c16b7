//! Errors that operations share, for their `responses(…)`.

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

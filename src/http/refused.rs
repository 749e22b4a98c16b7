use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

/// What any call may answer instead of what it is for; every body is an [`ErrorBody`](super::ErrorBody).
pub struct Refused;

impl utoipa::IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = |text: &str| {
            let body =
                ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorBody"))).build();
            let answer = ResponseBuilder::new().description(text).content("application/json", body);
            RefOr::T(answer.build())
        };
        [
            ("400", "The request breaks a rule; `detail` names it"),
            ("401", "Nobody we know"),
            ("403", "Known, but not allowed"),
            ("404", "There is none, or it is another tenant's"),
            ("405", "Another method"),
            ("408", "The request did not arrive in time"),
            ("409", "The task is in another state, or somebody else's"),
            ("413", "The body is too large"),
            ("422", "A value is out of its range"),
            ("429", "Too many requests; `Retry-After` says when"),
            ("500", "A defect of the broker"),
            ("503", "The store is away; `code` says whether something was done"),
        ]
        .into_iter()
        .map(|(status, text)| (status.to_owned(), answer(text)))
        .collect()
    }
}

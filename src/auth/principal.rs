use std::collections::HashSet;
use std::fmt;

use serde_json::{Map, Value};

use crate::model::{Command, TenantId};

/// Every scope a worker's call may ask for.
pub const WORKER_SCOPES: [&str; 6] = [
    "codeq:claim",
    "codeq:heartbeat",
    "codeq:abandon",
    "codeq:nack",
    "codeq:result",
    "codeq:subscribe",
];

const ADMIN_SCOPE: &str = "codeq:admin";
const OPERATOR_SCOPE: &str = "codeq:operator";
const ADMIN_ROLE: &str = "ADMIN";

/// The claims that may name the tenant. All that are present must agree.
const TENANT_CLAIMS: [&str; 5] =
    ["tid", "tenantId", "tenant_id", "organizationId", "organization_id"];

/// The bearer of an accepted token.
///
/// `Debug` shows no claim.
#[derive(Clone, PartialEq, Eq)]
pub struct Principal {
    /// The token's `sub`; a worker's id.
    pub subject: String,
    /// Whose tasks these are. `None` is `403` `invalid tenant claims`.
    pub tenant: Option<TenantId>,
    /// What the token may be used for.
    pub scopes: HashSet<String>,
    /// The commands a worker may handle.
    pub event_types: EventTypes,
    /// The `role` claim, as written; compared case-insensitively.
    pub role: Option<String>,
    /// The `workerGroup` claim: the only group a worker may subscribe in.
    pub worker_group: Option<String>,
}

/// The commands a worker may handle.
#[derive(Clone, PartialEq, Eq)]
pub enum EventTypes {
    /// The token says `*`.
    All,
    /// These, in lower case. Empty for tokens that name none.
    Only(HashSet<String>),
}

impl Principal {
    /// Reads the claims of a token that was verified.
    pub(super) fn of(subject: String, claims: &Map<String, Value>) -> Self {
        let text = |name| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            tenant: tenant(&subject, claims),
            scopes: scopes(claims.get("scope")).into_iter().map(str::to_owned).collect(),
            event_types: EventTypes::of(claims.get("eventTypes")),
            role: text("role"),
            worker_group: text("workerGroup"),
            subject,
        }
    }

    /// A producer that works: what its token allowed, every worker scope and all event types.
    pub(super) fn as_worker(&self) -> Self {
        let mut worker = self.clone();
        worker.scopes.extend(WORKER_SCOPES.map(str::to_owned));
        worker.event_types = EventTypes::All;
        worker
    }

    /// Whether the token has this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }

    /// Whether the token may use the admin endpoints, by scope or role.
    pub fn is_admin(&self) -> bool {
        self.has_scope(ADMIN_SCOPE)
            || self.role.as_ref().is_some_and(|role| role.eq_ignore_ascii_case(ADMIN_ROLE))
    }

    /// Whether the token may look across tenants.
    pub fn is_operator(&self) -> bool {
        self.has_scope(OPERATOR_SCOPE)
    }

    /// Whether a worker may handle tasks of this command.
    pub fn may_handle(&self, command: &Command) -> bool {
        match &self.event_types {
            EventTypes::All => true,
            EventTypes::Only(names) => names.contains(&command.lower()),
        }
    }
}

impl EventTypes {
    fn of(claim: Option<&Value>) -> Self {
        let names = claim.and_then(texts).unwrap_or_default();
        let names: HashSet<String> =
            names.into_iter().map(str::to_lowercase).filter(|name| !name.is_empty()).collect();
        if names.contains("*") { Self::All } else { Self::Only(names) }
    }

    /// Whether the token names no event type at all.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Only(names) if names.is_empty())
    }
}

/// A list of texts; `None` when it is something else or holds something else. A claim that is
/// partly wrong gives nothing rather than a part.
fn texts(claim: &Value) -> Option<Vec<&str>> {
    claim.as_array()?.iter().map(Value::as_str).collect()
}

/// Space-separated text (RFC 8693) or an array of texts.
fn scopes(claim: Option<&Value>) -> Vec<&str> {
    let names = match claim {
        Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
        Some(list) => texts(list).unwrap_or_default(),
        None => Vec::new(),
    };
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// `None` when the claims disagree or are no tenant's name, or when neither they nor the subject
/// name one.
fn tenant(subject: &str, claims: &Map<String, Value>) -> Option<TenantId> {
    let mut present = TENANT_CLAIMS.iter().filter_map(|name| claims.get(*name));
    let Some(first) = present.next() else { return TenantId::parse(subject) };
    let agree = present.all(|other| other == first);
    first.as_str().filter(|_| agree).and_then(TenantId::parse)
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").finish_non_exhaustive()
    }
}

impl fmt::Debug for EventTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::All) { "All" } else { "Only" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn principal(claims: Value) -> Principal {
        Principal::of("sub-1".to_owned(), claims.as_object().unwrap())
    }

    fn tenant_of(claims: Value) -> Option<String> {
        principal(claims).tenant.map(|tenant| tenant.to_string())
    }

    #[test]
    fn each_tenant_claim_names_the_tenant_and_all_present_ones_must_agree() {
        for name in TENANT_CLAIMS {
            assert_eq!(tenant_of(json!({name: "acme"})).as_deref(), Some("acme"), "{name}");
            for other in TENANT_CLAIMS.into_iter().filter(|other| *other != name) {
                let tenant = tenant_of(json!({name: "acme", other: "acme"}));
                assert_eq!(tenant.as_deref(), Some("acme"));
                assert_eq!(tenant_of(json!({name: "acme", other: "emca"})), None);
                assert_eq!(tenant_of(json!({name: "acme", other: null})), None);
            }
        }
    }

    #[test]
    fn without_a_tenant_claim_the_subject_is_the_tenant_under_the_same_rule() {
        assert_eq!(tenant_of(json!({})).as_deref(), Some("sub-1"));
        let claims = Map::new();
        assert_eq!(Principal::of("auth0|17".to_owned(), &claims).tenant, None);
    }

    #[test]
    fn a_tenant_claim_that_is_no_tenant_name_is_not_replaced_by_the_subject() {
        let long = "a".repeat(64);
        let odd = [json!(""), json!("a"), json!("Acme"), json!("1acme"), json!("a b"), json!(long)];
        let no_text = [json!(null), json!(7), json!(["acme"]), json!({"id": "acme"}), json!(true)];
        for value in odd.into_iter().chain(no_text) {
            assert_eq!(tenant_of(json!({"tid": value.clone()})), None, "{value}");
        }
    }

    #[test]
    fn scope_is_text_or_a_list() {
        for scope in [json!("codeq:claim  codeq:nack"), json!(["codeq:nack", "codeq:claim"])] {
            let principal = principal(json!({ "scope": scope }));
            assert!(principal.has_scope("codeq:claim") && principal.has_scope("codeq:nack"));
            assert_eq!(principal.scopes.len(), 2);
        }
        for scope in [json!(""), json!([]), json!([""]), json!(5), json!(["codeq:claim", 5])] {
            assert!(principal(json!({ "scope": scope.clone() })).scopes.is_empty(), "{scope}");
        }
    }

    #[test]
    fn event_types_are_compared_in_lower_case_and_a_star_allows_all() {
        let may = |event_types: Value, command: &str| {
            principal(json!({ "eventTypes": event_types }))
                .may_handle(&Command::parse(command).unwrap())
        };
        assert!(may(json!(["Über Mail"]), "üBER mail"));
        assert!(!may(json!(["mail"]), "mailbox"));
        assert!(may(json!(["x", "*"]), "anything"));
        assert!(!may(json!([]), "mail"));
        assert!(!may(json!("mail"), "mail"));
        assert!(!may(json!(["mail", 5]), "mail"));
        assert!(principal(json!({"eventTypes": [""]})).event_types.is_empty());
    }

    #[test]
    fn admins_have_the_scope_or_the_role_in_any_case() {
        assert!(principal(json!({"scope": "codeq:admin"})).is_admin());
        assert!(principal(json!({"role": "Admin"})).is_admin());
        assert!(!principal(json!({"role": "administrator"})).is_admin());
        assert!(!principal(json!({"role": ["ADMIN"]})).is_admin());
        assert!(!principal(json!({"scope": "codeq:operator"})).is_admin());
        assert!(principal(json!({"scope": "codeq:operator"})).is_operator());
    }
}

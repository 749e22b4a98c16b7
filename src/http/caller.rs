//! Who may come in. A handler names it in its signature; the checks run in the contract's order:
//! `401`, `413` by the announced length, `403` tenant, `403` scope. So the caller is the first
//! argument after the state, and what may be wrong with path, query or body comes after it.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Method;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::body::announced_length_is_allowed;
use super::{Context, Error, Result, security};
use crate::auth::{Denied, Principal};
use crate::model::TenantId;

/// Scopes of worker calls, as types: `Worker<scope::Claim>`.
pub mod scope {
    /// A scope that a token must have.
    pub trait Scope: Send + Sync + 'static {
        /// As it stands in the token.
        const NAME: &'static str;
    }

    macro_rules! scopes {
        ($($name:ident = $text:literal),* $(,)?) => {$(
            #[doc = concat!("`", $text, "`.")]
            #[derive(Clone, Copy, Debug)]
            pub struct $name;
            impl Scope for $name {
                const NAME: &'static str = $text;
            }
        )*};
    }

    scopes! {
        Claim = "codeq:claim",
        Heartbeat = "codeq:heartbeat",
        Abandon = "codeq:abandon",
        Nack = "codeq:nack",
        Result = "codeq:result",
        Subscribe = "codeq:subscribe",
    }
}

/// Lets an operator act for other tenants, and set what is the node's rather than a tenant's.
const OPERATOR: &str = "codeq:operator";

/// Somebody whose token was accepted, and whose tenant is known.
#[derive(Clone, Debug)]
pub struct Caller {
    principal: Arc<Principal>,
    /// Whose tasks the call sees.
    pub tenant: TenantId,
}

impl Deref for Caller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl Caller {
    fn of(principal: Arc<Principal>, parts: &Parts, max_body_bytes: usize) -> Result<Self> {
        announced_length_is_allowed(parts, max_body_bytes)?;
        let tenant =
            principal.tenant.clone().ok_or_else(|| security::tenant_mismatch(&principal))?;
        Ok(Self { principal, tenant })
    }

    /// For a call that is the operator's under some settings only.
    ///
    /// # Errors
    /// `403` without the scope.
    pub fn must_be_operator(&self) -> Result<()> {
        if self.is_operator() { Ok(()) } else { Err(security::scope_denied(self, OPERATOR)) }
    }

    fn with_scope(self, scope: &'static str) -> Result<Self> {
        if self.has_scope(scope) { Ok(self) } else { Err(security::scope_denied(&self, scope)) }
    }
}

/// The bearer of a producer token.
#[derive(Clone, Debug)]
pub struct Producer(Caller);

/// The bearer of a worker token with the scope `S`.
#[derive(Clone, Debug)]
pub struct Worker<S>(Caller, PhantomData<S>);

/// The bearer of a producer or worker token.
#[derive(Clone, Debug)]
pub struct Reader(Caller);

/// An administrator, and whose tenants the call is about.
#[derive(Clone, Debug)]
pub struct Admin {
    caller: Caller,
    tenants: Tenants,
}

/// An administrator with the scope `codeq:operator`.
#[derive(Clone, Debug)]
pub struct Operator(Admin);

/// Whose objects an administrator's call is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tenants {
    /// One tenant's: the caller's own, or the one an operator named.
    One(TenantId),
    /// Everybody's: an operator asked for `*`, which only reading allows.
    All,
}

impl Admin {
    /// Whose objects the call is about.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// The one tenant the call is about; `400` for `*`, where a call cannot answer for everybody.
    pub fn tenant(&self) -> Result<&TenantId> {
        match &self.tenants {
            Tenants::One(tenant) => Ok(tenant),
            Tenants::All => Err(Error::InvalidBody("tenant: must name one tenant here".into())),
        }
    }
}

macro_rules! derefs {
    ($([$($generic:ident)?] $name:ty => $target:ty: $field:tt),* $(,)?) => {$(
        impl$(<$generic>)? Deref for $name {
            type Target = $target;

            fn deref(&self) -> &$target {
                &self.$field
            }
        }
    )*};
}

derefs! {
    [] Producer => Caller: 0,
    [S] Worker<S> => Caller: 0,
    [] Reader => Caller: 0,
    [] Admin => Caller: caller,
    [] Operator => Admin: 0,
}

impl<S: Context> FromRequestParts<S> for Producer {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let principal = state.auth().producer(bearer(parts)?).await.map_err(refused)?;
        Caller::of(principal, parts, state.max_body_bytes()).map(Self)
    }
}

impl<S: Context, C: scope::Scope> FromRequestParts<S> for Worker<C> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let principal = state.auth().worker(bearer(parts)?).await.map_err(refused)?;
        let caller = Caller::of(principal, parts, state.max_body_bytes())?;
        Ok(Self(caller.with_scope(C::NAME)?, PhantomData))
    }
}

impl<S: Context> FromRequestParts<S> for Reader {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let principal = state.auth().either(bearer(parts)?).await.map_err(refused)?;
        Caller::of(principal, parts, state.max_body_bytes()).map(Self)
    }
}

impl<S: Context> FromRequestParts<S> for Admin {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let principal = state.auth().producer(bearer(parts)?).await.map_err(refused)?;
        if !principal.is_admin() {
            return Err(security::auth_failed(Error::AdminOnly));
        }
        let caller = Caller::of(principal, parts, state.max_body_bytes())?;
        let tenants = tenants(parts, &caller)?;
        Ok(Self { caller, tenants })
    }
}

impl<S: Context> FromRequestParts<S> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let admin = Admin::from_request_parts(parts, state).await?;
        admin.must_be_operator()?;
        Ok(Self(admin))
    }
}

fn refused(denied: Denied) -> Error {
    security::auth_failed(denied.into())
}

/// The token of the one `Authorization` header.
fn bearer(parts: &Parts) -> Result<&str> {
    token(parts).map_err(security::auth_failed)
}

fn token(parts: &Parts) -> Result<&str> {
    let mut values = parts.headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Error::MissingAuthorization)?;
    if values.next().is_some() {
        // Two parties might each look at another one.
        return Err(Error::InvalidAuthorization("more than one Authorization header".into()));
    }
    let bearer_and_token = value.to_str().ok().and_then(|text| text.split_once(' '));
    match bearer_and_token {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
            let token = token.trim_matches(' ');
            let visible = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
            visible.then_some(token)
        }
        _ => None,
    }
    .ok_or(Error::InvalidAuthorization("must be `Bearer <token>`".into()))
}

/// Whose objects: the caller's own, unless an operator says otherwise with `?tenant=`.
fn tenants(parts: &Parts, caller: &Caller) -> Result<Tenants> {
    let query = parts.uri.query().unwrap_or_default();
    let mut named =
        url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "tenant");
    let Some((_, name)) = named.next() else {
        return Ok(Tenants::One(caller.tenant.clone()));
    };
    if !caller.is_operator() {
        return Err(security::scope_denied(caller, OPERATOR));
    }
    if named.next().is_some() {
        return Err(Error::InvalidBody("tenant: given more than once".into()));
    }
    if name == "*" {
        let reads = matches!(parts.method, Method::GET | Method::HEAD);
        return reads
            .then_some(Tenants::All)
            .ok_or(Error::InvalidBody("tenant: `*` is for reading only".into()));
    }
    let tenant = TenantId::parse(&name).ok_or(Error::InvalidBody("tenant: not a tenant".into()))?;
    Ok(Tenants::One(tenant))
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::InvalidToken { detail } => Self::InvalidToken(detail.into()),
            Denied::MissingEventTypes => Self::TokenWithoutEventTypes,
            Denied::MissingScope => Self::TokenWithoutScope,
        }
    }
}

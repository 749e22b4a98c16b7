//! `POST /workers/subscriptions`: a worker asks to be told when its queues have work.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::EventTypes;
use crate::http::{self, Body, Error, Worker, responses, scope};
use crate::model::{Command, QueueName, Refusal, TenantId, Time, digest_text};
use crate::{script, store};

use super::expire::{self, Gone};
use super::{DAY_SECONDS, Response, home, ttl_ms};

/// Who is told, of what, and how often.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubscribeRequest)]
pub struct Request {
    /// http(s) URL that is told.
    #[schema(max_length = 2048)]
    callback_url: String,
    /// Commands.
    #[serde(default)]
    #[schema(schema_with = http::commands)]
    event_types: Option<Vec<String>>,
    /// Until it ends; ≤ 0 or absent is 300, above 86400 is 86400.
    #[serde(default)]
    ttl_seconds: Option<i64>,
    /// `fanout` (default), `group` or `hash`.
    #[serde(default)]
    #[schema(pattern = "^(fanout|group|hash)?$")]
    delivery_mode: Option<String>,
    /// Whose members take turns; needed in the mode `group`, unless the token names one.
    #[serde(default)]
    #[schema(max_length = 255)]
    group_id: Option<String>,
    /// Least time between two nudges; below the floor of the settings it is raised, above 86400
    /// lowered.
    #[serde(default)]
    min_interval_seconds: Option<i64>,
}

script! {
    /// Makes a subscription, or changes the one that is there.
    pub struct Subscribe<'a> = "subscribe", write, repeatable {
        once {}
        each {
            id: &'a str, tenant: &'a str, url: &'a str, mode: &'static str, group: &'a str,
            interval_ms: u64, queues: &'a str, labels: &'a str, ttl_ms: u64, most: usize,
        }
    } -> Subscribed { ends_ms: i64, created: bool, gone: Vec<Gone> }
}

/// Most event types of one request.
const MAX_TYPES: usize = 100;
/// Longest group, in bytes.
const MAX_GROUP: usize = 255;
/// Least time between two nudges when the request says nothing.
const DEFAULT_INTERVAL_SECONDS: i64 = 5;

/// Subscribes; the same URL and event types again change the subscription that is there.
#[utoipa::path(post, path = "/workers/subscriptions", tag = "worker", request_body = Request,
    responses((status = 200, body = Response), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn subscribe(
    State(app): State<App>,
    worker: Worker<scope::Subscribe>,
    Body(ask): Body<Request>,
) -> http::Result<Json<Response>> {
    let draft = Draft::check(&app, &worker, ask)?;
    let tenant = &worker.tenant;
    let id = draft.id(tenant);
    let labels = draft.labels(&app).await?;
    let most = app.settings.webhook.max_subscriptions;
    let subscribe = Subscribe {
        id: &id,
        tenant: tenant.as_str(),
        url: &draft.url,
        mode: draft.mode.letter(),
        group: &draft.group,
        interval_ms: draft.interval_ms,
        queues: &draft.queues(tenant),
        labels: &labels,
        ttl_ms: draft.ttl_ms,
        most,
    };
    let subscribed =
        app.store.run(home(&app, tenant.tag()), subscribe).await.map_err(|error| match error {
            store::Error::Refused(Refusal::TooMany) => {
                let rule = format!("webhook.maxSubscriptions: a tenant may have {most}");
                Error::InvalidBody(rule.into())
            }
            other => other.into(),
        })?;
    // What became ready while nobody was subscribed on this node need not wait any longer.
    app.nudges.listened(tenant.tag());
    if subscribed.created {
        tracing::info!(
            target: "codeq::subscriptions", category = "worker", event = "subscription.created",
            tenant_id = tenant.as_str(), worker_id = worker.subject.as_str(),
            subscription_id = id.as_str(), mode = draft.mode.name(), webhook.host = draft.host.as_str(),
            "a worker subscribed"
        );
    }
    expire::tell(&subscribed.gone);
    let expires_at = Time::from_ms(subscribed.ends_ms);
    Ok(Json(Response { subscription_id: id, expires_at }))
}

/// Which subscribers of a queue are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Every one.
    Fanout,
    /// One of each group, in turn.
    Group,
    /// One of all.
    Hash,
}

impl Mode {
    /// In the order in which they are drawn.
    pub(super) const ALL: [Self; 3] = [Self::Fanout, Self::Group, Self::Hash];

    /// On the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Group => "group",
            Self::Hash => "hash",
        }
    }

    /// In the store.
    pub(super) fn letter(self) -> &'static str {
        &self.name()[..1]
    }
}

/// A request that was checked.
struct Draft {
    url: String,
    host: String,
    /// By the lower-case form, each as it was spelled; `None` is all there are.
    commands: Option<BTreeMap<String, Command>>,
    /// The request spelled them; a token's are in lower case.
    spelled: bool,
    mode: Mode,
    /// Digest of the group, "" without.
    group: String,
    ttl_ms: u64,
    interval_ms: u64,
}

impl Draft {
    fn check(app: &App, worker: &Worker<scope::Subscribe>, ask: Request) -> http::Result<Self> {
        if ask.callback_url.trim().is_empty() {
            return Err(Error::InvalidBody("callbackUrl: must not be blank".into()));
        }
        let host = super::target(app, &ask.callback_url)?.host().to_owned();
        let (mode, group) = mode_and_group(
            present(ask.delivery_mode.as_deref()),
            present(ask.group_id.as_deref()),
            present(worker.worker_group.as_deref()),
        )?;
        let asked = ask.event_types.unwrap_or_default();
        let spelled = !is_all(&asked);
        let commands = commands(worker, &asked)?;
        let floor = i64::from(app.settings.subscriptions.min_interval_seconds);
        let interval = ask.min_interval_seconds.unwrap_or(DEFAULT_INTERVAL_SECONDS);
        Ok(Self {
            url: ask.callback_url,
            host,
            commands,
            spelled,
            mode,
            group,
            ttl_ms: ttl_ms(ask.ttl_seconds),
            interval_ms: interval.clamp(floor, DAY_SECONDS).unsigned_abs() * 1000,
        })
    }

    /// The same for the same tenant, URL and event types.
    fn id(&self, tenant: &TenantId) -> String {
        let mut parts = vec![&b"subscription"[..], tenant.as_str().as_bytes(), self.url.as_bytes()];
        match &self.commands {
            Some(commands) => parts.extend(commands.keys().map(String::as_bytes)),
            None => parts.push(b"*"),
        }
        digest_text::<15>(&parts)
    }

    fn queues(&self, tenant: &TenantId) -> String {
        match &self.commands {
            Some(commands) => {
                let names = commands.values().map(|command| QueueName::of(tenant, command));
                names.map(|name| name.as_str().to_owned()).collect()
            }
            None => QueueName::any_of(tenant.tag()).as_str().to_owned(),
        }
    }

    /// The metric labels it is counted under: for all commands the one for all others.
    async fn labels(&self, app: &App) -> http::Result<String> {
        let mut labels = BTreeSet::new();
        for command in self.commands.iter().flat_map(BTreeMap::values) {
            // A spelling that no person chose should not become the label of a command.
            labels.insert(match self.spelled {
                true => app.labels.number(&app.store, command).await?,
                false => app.labels.known(&app.store, command).await?,
            });
        }
        if labels.is_empty() {
            labels.insert(0);
        }
        let texts: Vec<String> = labels.iter().map(u16::to_string).collect();
        Ok(texts.join(" "))
    }
}

/// White space counts as absent.
fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// The mode and the digest of the group. A token's group wins over the request's, and makes turns
/// within it what happens when the request names no mode.
fn mode_and_group(
    mode: Option<&str>,
    asked: Option<&str>,
    of_token: Option<&str>,
) -> http::Result<(Mode, String)> {
    if asked.is_some_and(|group| group.len() > MAX_GROUP) {
        return Err(Error::InvalidBody("groupId: at most 255 bytes".into()));
    }
    let mode = match mode {
        None if of_token.is_some() => Mode::Group,
        None => Mode::Fanout,
        Some(name) => {
            *Mode::ALL.iter().find(|mode| mode.name() == name).ok_or(Error::InvalidDeliveryMode)?
        }
    };
    if mode != Mode::Group {
        return Ok((mode, String::new()));
    }
    let group = of_token.or(asked).ok_or(Error::GroupIdRequired)?;
    Ok((mode, digest_text::<9>(&[b"group", group.as_bytes()])))
}

/// Whether it wants whatever the token allows.
fn is_all(asked: &[String]) -> bool {
    asked.is_empty() || asked.iter().any(|name| name == "*")
}

/// What it wants to be told of, within what the token allows; `None` is everything.
fn commands(
    worker: &Worker<scope::Subscribe>,
    asked: &[String],
) -> http::Result<Option<BTreeMap<String, Command>>> {
    if asked.len() > MAX_TYPES {
        return Err(Error::InvalidBody("eventTypes: at most 100".into()));
    }
    let mut commands = Vec::with_capacity(asked.len());
    for name in asked.iter().filter(|name| *name != "*") {
        commands.push(Command::parse(name).map_err(|rule| Error::InvalidCommand(rule.into()))?);
    }
    if is_all(asked) {
        match &worker.event_types {
            EventTypes::All => return Ok(None),
            EventTypes::Only(names) => {
                commands = names.iter().filter_map(|name| Command::parse(name).ok()).collect();
            }
        }
    }
    // A token whose names are none of a command would be told of nothing.
    if commands.is_empty() || !commands.iter().all(|command| worker.may_handle(command)) {
        return Err(Error::EventTypeNotAllowed);
    }
    Ok(Some(commands.into_iter().map(|command| (command.lower(), command)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_group_wins_and_makes_turns_the_default() {
        let of = |mode, asked, token| mode_and_group(mode, asked, token).unwrap();
        let (mode, blue) = of(Some("group"), Some("blue"), None);
        assert_eq!((mode, blue.len()), (Mode::Group, 12));
        assert_eq!(of(None, Some("red"), Some("blue")), (Mode::Group, blue.clone()));
        assert_eq!(of(Some("group"), None, Some("blue")), (Mode::Group, blue));
        assert_eq!(of(Some("hash"), Some("red"), Some("blue")), (Mode::Hash, String::new()));
        assert_eq!(of(None, Some("red"), None), (Mode::Fanout, String::new()));
    }

    #[test]
    fn a_mode_that_is_none_and_a_group_that_is_missing_are_refused() {
        for mode in ["Fanout", "all", "group "] {
            assert_eq!(mode_and_group(Some(mode), None, None), Err(Error::InvalidDeliveryMode));
        }
        assert_eq!(mode_and_group(Some("group"), None, None), Err(Error::GroupIdRequired));
        let long = "g".repeat(256);
        assert!(mode_and_group(Some("group"), Some(&long), None).is_err());
    }
}

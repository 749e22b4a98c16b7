//! `GET /admin/webhooks`: deliveries that wait, and those that were given up.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::http::{self, Admin, Cursor, Error, Limit, Page, Query, Tenants, params, responses};
use crate::model::delivery::Reason;
use crate::model::{Command, DeliveryId, Partition, Time};

use super::admin::{Found, Read};
use super::search::{FOR_EVER_MS, Filter, Hit, Position, Search};
use super::shown::{Brief, Shown};

/// Which page.
#[derive(Deserialize, IntoParams)]
pub struct Ask {
    /// `dead` when absent.
    #[serde(default)]
    #[param(inline, required = false)]
    state: In,
    /// Id of a destination.
    #[param(required = false, pattern = "^[-_0-9A-Za-z]{16}$")]
    destination: Option<String>,
    /// A command, in any case.
    #[param(
        required = false,
        max_length = 256,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    command: Option<String>,
    /// Why it died; only with `state=dead`.
    #[param(required = false, pattern = "^(gone|exhausted|expired|blocked|poison|aborted)$")]
    reason: Option<String>,
    /// RFC 3339. The earliest death or, of pending ones, beginning of the series.
    #[param(required = false, format = "date-time")]
    since: Option<String>,
    /// RFC 3339. Only what is before.
    #[param(required = false, format = "date-time")]
    until: Option<String>,
    /// 1..1000.
    #[serde(default)]
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: Limit,
    /// From the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<Cursor<Position>>,
}

/// The state that deliveries are listed by.
#[derive(Deserialize, Serialize, ToSchema, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookState)]
pub enum In {
    /// By the beginning of their series of attempts.
    Pending,
    /// By death.
    #[default]
    Dead,
}

/// Looks into each partition for one page: a page of few among many ends early, with a cursor.
const LOOKS: usize = 16;

/// A page of deliveries, oldest first.
#[utoipa::path(get, path = "/admin/webhooks", operation_id = "webhooks", tag = "admin",
    params(params::OfTenants, Ask),
    responses((status = 200, body = Page<Shown>), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn list(
    State(app): State<App>,
    admin: Admin,
    Query(ask): Query<Ask>,
) -> http::Result<Json<Page<Shown>>> {
    let dead = ask.state == In::Dead;
    if !dead && ask.reason.is_some() {
        return Err(Error::InvalidBody("reason: only with state=dead".into()));
    }
    let (tenant, of_all) = match admin.tenants() {
        Tenants::One(tenant) => (tenant.tag(), false),
        Tenants::All => ("", true),
    };
    let wanted = Wanted {
        destination: ask.destination.as_deref(),
        command: ask.command.as_deref(),
        reason: ask.reason.as_deref(),
        since: ask.since.as_deref(),
        until: ask.until.as_deref(),
    };
    let (filter, since) = wanted.filter(dead, tenant)?;
    let from = match ask.cursor {
        None => since,
        Some(Cursor(at)) if at.is_valid() => at,
        Some(_) => return Err(Error::InvalidBody("cursor: not a cursor of this list".into())),
    };
    let mut search = Search::new(&app, filter, &from);
    let hits = search.next(&app, ask.limit.get(), LOOKS).await?;
    let filled = hits.last().filter(|_| hits.len() == ask.limit.get());
    let next = search.goes_on_at(filled.map(|(_, hit)| hit));
    let items = read(&app, &hits).await?.into_iter().map(|brief| brief.shown(of_all)).collect();
    Ok(Json(Page::new(items, next.as_ref())))
}

/// Those that were found. One that is gone meanwhile is left out, one that moved on is shown as it is.
async fn read(app: &App, hits: &[(Partition, Hit)]) -> http::Result<Vec<Brief>> {
    let reads = hits.iter().map(|(partition, hit)| async move {
        let Some(id) = DeliveryId::from_short(hit.name()) else { return Ok(None) };
        let ask = Read { delivery: hit.name(), tenant: "", log: 1 };
        match app.store.run(*partition, ask).await.map_err(Error::from) {
            Ok(Found { record, due_ms, parked_ms }) => {
                Brief::read(id, &record, due_ms, parked_ms).map(Some)
            }
            Err(Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let read = futures_util::future::try_join_all(reads).await?;
    Ok(read.into_iter().flatten().collect())
}

/// What narrows a list or a recovery, as text from outside.
pub(super) struct Wanted<'a> {
    pub destination: Option<&'a str>,
    pub command: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub since: Option<&'a str>,
    pub until: Option<&'a str>,
}

impl Wanted<'_> {
    /// The filter, and the place before the first that can match.
    ///
    /// # Errors
    /// `400` that names the field and its rule.
    pub fn filter(&self, dead: bool, tenant: &str) -> http::Result<(Filter, Position)> {
        let refuse = |rule: &'static str| Error::InvalidBody(rule.into());
        let is_id = |text: &&str| {
            text.len() == 16
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let destination = match self.destination {
            None => "",
            Some(id) if is_id(&id) => id,
            Some(_) => return Err(refuse("destination: not the id of a destination")),
        };
        let command = self.command.map(Command::parse).transpose();
        let command = command.map_err(|rule| Error::InvalidBody(rule.into()))?;
        let reason =
            self.reason.map(|text| Reason::parse(text).ok_or(refuse(REASONS))).transpose()?;
        let time = |text: Option<&str>, rule| {
            text.map(|text| Time::parse(text).ok_or(refuse(rule))).transpose()
        };
        let since = time(self.since, "since: must be an RFC 3339 time")?;
        let until = time(self.until, "until: must be an RFC 3339 time")?;
        let filter = Filter {
            dead,
            tenant: tenant.to_owned(),
            destination: destination.to_owned(),
            command: command.map(|command| command.tag()).unwrap_or_default(),
            reason: reason.map_or(0, |reason| reason as u8),
            until_ms: until.map_or(FOR_EVER_MS, Time::ms).clamp(0, FOR_EVER_MS),
        };
        Ok((filter, Position::since(since)))
    }
}

const REASONS: &str = "reason: must be gone, exhausted, expired, blocked, poison or aborted";

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(wanted: &Wanted<'_>) -> String {
        match wanted.filter(true, "acme").unwrap_err() {
            Error::InvalidBody(detail) => detail.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_narrows_a_list_is_refused_by_name_and_rule() {
        let none =
            || Wanted { destination: None, command: None, reason: None, since: None, until: None };
        let (filter, from) = none().filter(true, "acme").unwrap();
        assert_eq!((filter.reason, filter.until_ms, from.at_ms), (0, FOR_EVER_MS, 0));
        for (wanted, field) in [
            (Wanted { destination: Some("x"), ..none() }, "destination:"),
            (Wanted { command: Some(" "), ..none() }, "command"),
            (Wanted { reason: Some("late"), ..none() }, "reason:"),
            (Wanted { since: Some("soon"), ..none() }, "since:"),
            (Wanted { until: Some("2026-01-01"), ..none() }, "until:"),
        ] {
            assert!(refused(&wanted).starts_with(field), "{field} {}", refused(&wanted));
        }
    }

    #[test]
    fn a_cursor_from_elsewhere_is_none_of_this_list() {
        let at = |at_ms, member: &str| Position { at_ms, member: member.to_owned() };
        let name = DeliveryId { task: crate::model::TaskId::new(Partition::new(1), 5), n: 1 };
        let member = format!("acme--------{}", name.short());
        assert!(at(5, "").is_valid() && at(5, &member).is_valid());
        for bad in [at(-1, ""), at(i64::MAX, ""), at(5, "x"), at(5, "acme--------x"), at(5, "ä")] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}

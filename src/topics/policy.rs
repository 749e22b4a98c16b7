//! `PUT`, `GET`, `DELETE /admin/topics/{name}`: what an admin lays down for a queue.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, keys};
use crate::http::{self, Admin, Body, Error, Missing, NamePath, Query, params, responses};
use crate::model::{Command, Partition, QueueName, TenantId};
use crate::script;

/// A queue's policy. What is absent is left to the defaults.
#[derive(Deserialize, Serialize, ToSchema, Clone, PartialEq, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// 1..10 tiers of 0..10; 10 acts as 9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = tiers)]
    priority_tiers: Option<Vec<i64>>,
    /// 1..100: the default of new tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    max_attempts: Option<i64>,
    /// Another topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    dead_letter_topic_ref: Option<String>,
    /// How long new tasks are kept after their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 315360000)]
    retention_seconds: Option<i64>,
    /// Stored and shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000000)]
    max_consumers: Option<i64>,
}

/// A stored policy.
#[derive(Serialize, ToSchema)]
pub struct Topic {
    /// `<tenant>.<name>`
    id: String,
    name: String,
    version: u32,
    // Not by reference: the policy's schema admits no further fields, and here are some.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    policy: Policy,
}

fn tiers() -> utoipa::openapi::Schema {
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type};
    let tier = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(10));
    let tiers = ArrayBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Array, Type::Null]))
        .items(tier)
        .min_items(Some(1))
        .max_items(Some(10))
        .description(Some("1..10 tiers of 0..10; 10 acts as 9."));
    tiers.build().into()
}

/// Deleting must be meant.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Deletion {
    /// `Delete`
    deletion_policy: Option<String>,
}

script! {
    /// Stores a policy on one partition.
    pub struct PutPolicy<'a> = "policy_put", write, repeatable {
        once {}
        each { queue: &'a QueueName, max: u16, retention_s: u32, text: &'a str }
    } -> Put { created: bool, version: u32, before: String }
}

script! {
    /// Removes a policy from one partition.
    pub struct DeletePolicy<'a> = "policy_delete", write, repeatable {
        once {}
        each { queue: &'a QueueName }
    } -> Deleted { deleted: bool }
}

/// Longest retention: ten years.
const MAX_RETENTION_SECONDS: i64 = 315_360_000;
/// Most consumers that may be stored.
const MAX_CONSUMERS: i64 = 1_000_000;
/// Version byte, max attempts, retention, version: what stands before the JSON text.
const HEAD: usize = 1 + 2 + 4 + 4;

/// Stores a policy: `201` first, `200` for a replay (same version) or an update (version + 1).
#[utoipa::path(put, operation_id = "put_topic", path = "/admin/topics/{name}", tag = "admin",
    params(params::TopicName, params::OfTenant), request_body = Policy,
    responses((status = 201, body = Topic), (status = 200, body = Topic), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Unprocessable),
    security(("bearer" = [])))]
pub async fn put(
    State(app): State<App>,
    admin: Admin,
    NamePath(name): NamePath,
    Body(policy): Body<Policy>,
) -> http::Result<Response> {
    let place = Place::of(&app, admin.tenant()?, name)?;
    policy.check(&place.name)?;
    let text = serde_json::to_string(&policy).expect("strings and numbers are JSON");
    let mut answer = None;
    for partition in &place.partitions {
        let put = PutPolicy {
            queue: &place.queue,
            max: policy.max_attempts.and_then(|n| u16::try_from(n).ok()).unwrap_or(0),
            retention_s: policy.retention_seconds.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            text: &text,
        };
        let put = app.store.run(*partition, put).await?;
        answer.get_or_insert(put);
    }
    let put = answer.expect("a queue lies on at least one partition");
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.topic_put",
        by = admin.subject.as_str(), topic = place.id(), version = put.version,
        before = put.before.as_str(), after = text.as_str(),
        "a topic's policy was stored"
    );
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(place.topic(put.version, policy))).into_response())
}

/// The stored policy.
#[utoipa::path(get, operation_id = "get_topic", path = "/admin/topics/{name}", tag = "admin",
    params(params::TopicName, params::OfTenant),
    responses((status = 200, body = Topic), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Unprocessable), security(("bearer" = [])))]
pub async fn get(
    State(app): State<App>,
    admin: Admin,
    NamePath(name): NamePath,
) -> http::Result<Json<Topic>> {
    let place = Place::of(&app, admin.tenant()?, name)?;
    let missing = || Error::NotFound(Missing::Topic(place.id()));
    let home = place.partitions[0];
    let key = keys::policy(&app.partitions, home, &place.queue);
    let found = app.store.get(home, vec![key]).await?.pop().flatten().ok_or_else(missing)?;
    let (version, policy) = unpack(&found).ok_or(Error::StoreUnavailable)?;
    Ok(Json(place.topic(version, policy)))
}

/// Removes a policy; also when there is none.
#[utoipa::path(delete, operation_id = "delete_topic", path = "/admin/topics/{name}", tag = "admin",
    params(params::TopicName, params::OfTenant, params::Meant),
    responses((status = 204, description = "There is none now"), responses::Authenticated, responses::BadRequest, responses::NotFound, responses::Unprocessable),
    security(("bearer" = [])))]
pub async fn delete(
    State(app): State<App>,
    admin: Admin,
    NamePath(name): NamePath,
    Query(deletion): Query<Deletion>,
) -> http::Result<StatusCode> {
    if deletion.deletion_policy.as_deref() != Some("Delete") {
        return Err(Error::DeletionPolicyRequired);
    }
    let place = Place::of(&app, admin.tenant()?, name)?;
    let mut deleted = false;
    for partition in &place.partitions {
        let gone = app.store.run(*partition, DeletePolicy { queue: &place.queue }).await?;
        deleted |= gone.deleted;
    }
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.topic_deleted",
        by = admin.subject.as_str(), topic = place.id(), deleted, "a topic's policy was removed"
    );
    Ok(StatusCode::NO_CONTENT)
}

/// Version and policy of a stored record.
fn unpack(record: &[u8]) -> Option<(u32, Policy)> {
    let (head, text) = record.split_at_checked(HEAD)?;
    let version = u32::from_be_bytes(head[7..].try_into().ok()?);
    (head[0] == 1).then_some(version).zip(serde_json::from_slice(text).ok())
}

/// Where a topic's policy is.
struct Place {
    tenant: TenantId,
    name: String,
    queue: QueueName,
    partitions: Vec<Partition>,
}

impl Place {
    fn of(app: &App, tenant: &TenantId, name: String) -> http::Result<Self> {
        if !is_dns_label(&name) {
            return Err(Error::InvalidPolicy {
                field: "name".into(),
                rule: "must be a DNS label: 1 to 63 of a-z, 0-9 and -, no - at the ends".into(),
            });
        }
        let command = Command::parse(&name).map_err(|rule| Error::InvalidCommand(rule.into()))?;
        let queue = QueueName::of(tenant, &command);
        let partitions = app.partitions_of(&queue, &command).collect();
        Ok(Self { tenant: tenant.clone(), name, queue, partitions })
    }

    fn id(&self) -> String {
        format!("{}.{}", self.tenant, self.name)
    }

    fn topic(&self, version: u32, policy: Policy) -> Topic {
        Topic { id: self.id(), name: self.name.clone(), version, policy }
    }
}

/// RFC 1123, lower-case only, since queues are keyed so.
fn is_dns_label(name: &str) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&name.len())
        && name.bytes().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl Policy {
    fn check(&self, name: &str) -> http::Result<()> {
        let within = |field: &'static str, value: Option<i64>, least: i64, most: i64| match value {
            Some(value) if !(least..=most).contains(&value) => Err(Error::InvalidPolicy {
                field: field.into(),
                rule: format!("must be between {least} and {most}").into(),
            }),
            _ => Ok(()),
        };
        within("maxAttempts", self.max_attempts, 1, 100)?;
        within("retentionSeconds", self.retention_seconds, 1, MAX_RETENTION_SECONDS)?;
        within("maxConsumers", self.max_consumers, 1, MAX_CONSUMERS)?;
        if let Some(tiers) = &self.priority_tiers {
            if !(1..=10).contains(&tiers.len()) {
                return Err(Error::InvalidPolicy {
                    field: "priorityTiers".into(),
                    rule: "must have 1 to 10 tiers".into(),
                });
            }
            for tier in tiers {
                within("priorityTiers", Some(*tier), 0, 10)?;
            }
        }
        match self.dead_letter_topic_ref.as_deref() {
            Some(other) if !is_dns_label(other) || other == name => Err(Error::InvalidPolicy {
                field: "deadLetterTopicRef".into(),
                rule: "must be the name of another topic".into(),
            }),
            _ => Ok(()),
        }
    }
}

//! Calls about webhooks: their tasks, deliveries and destinations.

use serde_json::{Value, json};

use super::client::{Call, Client};

impl Client {
    /// Creates a task of this command whose end is told there; its id.
    pub async fn created_with_webhook(&self, command: &str, url: &str) -> String {
        self.created_as(json!({"command": command, "payload": {"n": 1}, "webhook": url})).await
    }

    /// What became of a task's webhook.
    pub fn task_webhook(&self, id: &str) -> Call {
        self.get(&format!("/tasks/{id}/webhook"))
    }

    /// A page of deliveries, as `state=dead&limit=10`.
    pub fn webhooks(&self, query: &str) -> Call {
        self.get(&format!("/admin/webhooks?{query}"))
    }

    /// A delivery with its attempts, by `webhook-id`.
    pub fn webhook(&self, id: &str) -> Call {
        self.get(&format!("/admin/webhooks/{id}"))
    }

    pub fn drop_webhook(&self, id: &str) -> Call {
        self.delete(&format!("/admin/webhooks/{id}"))
    }

    pub fn replay_webhook(&self, id: &str) -> Call {
        self.bare_post(&format!("/admin/webhooks/{id}/replay"))
    }

    pub fn recover_webhooks(&self, body: Value) -> Call {
        self.post("/admin/webhooks/recover", body)
    }

    pub fn recovery(&self, id: &str) -> Call {
        self.get(&format!("/admin/webhooks/recoveries/{id}"))
    }

    pub fn stop_recovery(&self, id: &str) -> Call {
        self.delete(&format!("/admin/webhooks/recoveries/{id}"))
    }

    /// A signed call to a receiver, to see whether it works.
    pub fn test_webhook(&self, url: &str) -> Call {
        self.post("/admin/webhooks/test", json!({"url": url}))
    }

    /// A page of destinations, as `state=open`.
    pub fn destinations(&self, query: &str) -> Call {
        self.get(&format!("/admin/webhook-destinations?{query}"))
    }

    /// Sets limits of a destination.
    pub fn put_destination(&self, id: &str, body: Value) -> Call {
        self.put(&format!("/admin/webhook-destinations/{id}"), body)
    }

    pub fn pause_destination(&self, id: &str) -> Call {
        self.bare_post(&format!("/admin/webhook-destinations/{id}/pause"))
    }

    pub fn resume_destination(&self, id: &str) -> Call {
        self.bare_post(&format!("/admin/webhook-destinations/{id}/resume"))
    }

    /// The keys with which the tenant's receivers verify.
    pub fn webhook_secret(&self) -> Call {
        self.get("/admin/webhook-secret")
    }
}

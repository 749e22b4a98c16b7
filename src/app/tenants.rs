//! Tenants with series of their own: those that the settings name, and one for all others.

use std::collections::HashMap;

use crate::model::TenantId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::TenantMetrics;

use super::labels::OTHER;

/// The handles of tenants. Empty when the settings name none.
pub struct TenantCounts {
    named: HashMap<TenantId, TenantMetrics>,
    others: Option<TenantMetrics>,
}

impl TenantCounts {
    /// Resolves the handles of these tenants.
    pub fn new(tenants: &[TenantId], metrics: &Metrics) -> Self {
        let named = |tenant: &TenantId| (tenant.clone(), metrics.tenant(tenant.as_str()));
        Self {
            named: tenants.iter().map(named).collect(),
            others: (!tenants.is_empty()).then(|| metrics.tenant(OTHER)),
        }
    }

    /// The handles of a tenant; `None` when tenants have no series.
    pub fn of(&self, tenant: &TenantId) -> Option<&TenantMetrics> {
        self.named.get(tenant).or(self.others.as_ref())
    }
}

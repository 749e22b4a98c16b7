//! What the tests of this room share.

use crate::config::{Settings, Webhook};

/// The defaults of production: no private networks.
pub fn settings() -> Webhook {
    Webhook { allow_private_networks: false, ..Settings::defaults().webhook }
}

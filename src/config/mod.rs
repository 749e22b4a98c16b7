//! Settings: parsed, validated and shown.

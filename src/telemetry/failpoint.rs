//! Faults that tests ask a debug build for. A release build has none: there nothing reads the
//! variable, and every question is answered at compile time.

#[cfg(debug_assertions)]
static SET: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| std::env::var("CODEQ_FAILPOINTS").unwrap_or_default());

/// Whether `CODEQ_FAILPOINTS`, a list separated by commas, holds `place.name`.
#[cfg(debug_assertions)]
pub fn is_set(place: &str, name: &str) -> bool {
    !SET.is_empty() && SET.split(',').any(|set| set.split_once('.') == Some((place, name)))
}

/// Never, in a release build.
#[cfg(not(debug_assertions))]
pub const fn is_set(_: &str, _: &str) -> bool {
    false
}

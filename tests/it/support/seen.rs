//! Answers as snapshots show them: what differs between two runs is a word.

/// Runs assertions with ids, times and tokens replaced by words.
pub fn seen(assertions: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    for (what, word) in [
        (r#""[0-9a-f]{32}""#, r#""<request>""#),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<id>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
        (r#""leaseToken":"[^"]+""#, r#""leaseToken":"<lease>""#),
    ] {
        settings.add_filter(what, word);
    }
    settings.bind(assertions);
}

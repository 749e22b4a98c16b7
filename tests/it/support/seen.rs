//! Answers as snapshots show them: what differs between two runs is a word.

/// Ids, times and tokens replaced by words, as long as the value lives.
pub fn seen() -> impl Drop {
    let mut settings = insta::Settings::clone_current();
    for (what, word) in [
        (r#""[0-9a-f]{32}""#, r#""<request>""#),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "<id>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "<time>"),
        (r#""leaseToken":"[^"]+""#, r#""leaseToken":"<lease>""#),
        // Up to a minute, less what the test took.
        (r#""retryAfterSeconds":(5\d|60)\b"#, r#""retryAfterSeconds":<minute>"#),
        (r#""durationMs":\d+"#, r#""durationMs":<ms>"#),
    ] {
        settings.add_filter(what, word);
    }
    settings.bind_to_scope()
}

/// `assert_shown!(answer, @"…")`: status and body byte for byte, but for ids, times and tokens.
#[macro_export]
macro_rules! assert_shown {
    ($answer:expr, @$snapshot:literal) => {{
        let shown = $answer.shown();
        let _words = $crate::support::seen();
        insta::allow_duplicates! {
            insta::assert_snapshot!(shown, @$snapshot);
        }
    }};
}

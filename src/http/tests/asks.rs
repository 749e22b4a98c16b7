//! What is parsed of a request.

use super::*;

async fn create(body: impl Into<Bytes>) -> Answer {
    Node::new().ask(ask(Method::POST, "/tasks").token("producer").text(body)).await
}

#[tokio::test]
async fn a_refused_body_is_explained_without_repeating_it() {
    for (body, detail) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{", "EOF while parsing an object at line 1 column 1"),
        ("{}{}", "trailing characters at line 1 column 3"),
        (r#"{"delaySeconds":"geheim"}"#, "delaySeconds: expected i64, found string"),
        ("[[", "EOF while parsing a list at line 1 column 1"),
    ] {
        let answer = create(body).await;
        assert_eq!(answer.says(), "400 invalid body", "{body}");
        assert!(!answer.body.contains("geheim"));
        if body != "[[" {
            assert_eq!(answer.detail(), detail);
        }
    }
    let path = "/tasks/x/result";
    let answer = Node::new().ask(ask(Method::POST, path).token("worker").text("x")).await;
    assert_eq!(answer.says(), "400 invalid request body");
}

#[tokio::test]
async fn content_type_is_not_looked_at_and_unknown_fields_are_ignored() {
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let request =
            ask(Method::POST, "/tasks").token("producer").header("content-type", content_type);
        let answer = Node::new().ask(request.text(r#" {"x":1,"x":[{}],"delaySeconds":3} "#)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "3"));
    }
}

#[tokio::test]
async fn an_empty_body_stands_for_the_default_only_where_the_call_says_so() {
    let path = "/tasks/0190a1b2-c3d4-7005-8000-0123456789ab/nack";
    for body in ["", " \r\n", "{}", "null"] {
        let answer = Node::new().ask(ask(Method::POST, path).token("worker").text(body)).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "None 0"));
    }
    assert_eq!(create("null").await.says(), "400 invalid body");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_however_it_comes() {
    let huge = "x".repeat(MAX_BODY + 1);
    assert_eq!(create(huge.clone()).await.says(), "413 body too large");
    let pieces = |size: usize| {
        let pieces: Vec<std::io::Result<String>> = huge
            .as_bytes()
            .chunks(size)
            .map(|p| Ok(String::from_utf8(p.into()).unwrap()))
            .collect();
        Bytes::from_stream(futures_util::stream::iter(pieces))
    };
    assert_eq!(create(pieces(MAX_BODY + 1)).await.says(), "413 body too large");
    assert_eq!(create(pieces(1000)).await.says(), "413 body too large");
    assert_eq!(create(pieces(1)).await.says(), "413 body too large");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_arrives_whole() {
    let whole: String = ('a'..='z').cycle().take(MAX_BODY).collect();
    for size in [1, 7, 1000, MAX_BODY] {
        let pieces: Vec<std::io::Result<String>> = whole
            .as_bytes()
            .chunks(size)
            .map(|piece| Ok(String::from_utf8(piece.into()).unwrap()))
            .collect();
        let body = Bytes::from_stream(futures_util::stream::iter(pieces));
        let answer = Node::new().ask(ask(Method::POST, "/echo").text(body)).await;
        assert_eq!((answer.status.as_u16(), answer.body), (200, whole.clone()));
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_clients_error() {
    let broken = [Ok("{"), Err(std::io::Error::other("reset"))];
    let answer = create(Bytes::from_stream(futures_util::stream::iter(broken))).await;
    assert_eq!(
        (answer.says().as_str(), answer.detail().as_str()),
        ("400 invalid body", "the body broke off")
    );
}

#[tokio::test]
async fn pages_have_bounds_and_cursors_come_back_as_they_went() {
    let cursor = encode_cursor(&(7_u64, "mäil/\u{1F600}"));
    for (query, says) in [
        ("", r#"{"items":[100]}"#.to_owned()),
        ("limit=1", r#"{"items":[1]}"#.to_owned()),
        ("limit=1000", r#"{"items":[1000]}"#.to_owned()),
        (&format!("cursor={cursor}"), format!(r#"{{"items":[100],"nextCursor":"{cursor}"}}"#)),
    ] {
        let answer = Node::new()
            .ask(ask(Method::GET, &format!("/list?{query}")).token("producer").empty())
            .await;
        assert_eq!(answer.body, says, "{query}");
    }
    assert_eq!(decode_cursor::<(u64, String)>(&cursor), Some((7, "mäil/\u{1F600}".into())));
}

#[tokio::test]
async fn a_bad_query_is_an_invalid_body() {
    let other = encode_cursor(&"other");
    for (query, detail) in [
        ("limit=0", "limit: must be between 1 and 1000"),
        ("limit=1001", "limit: must be between 1 and 1000"),
        ("limit=-1", "limit: must be between 1 and 1000"),
        ("limit=", "limit: must be between 1 and 1000"),
        ("limit=ten", "limit: must be between 1 and 1000"),
        ("limit=1&limit=2", "duplicate field `limit`"),
        ("cursor=geheim", "cursor: not a cursor of this list"),
        ("cursor=%00%ff", "cursor: not a cursor of this list"),
        (&format!("cursor={other}"), "cursor: not a cursor of this list"),
    ] {
        let answer = Node::new()
            .ask(ask(Method::GET, &format!("/list?{query}")).token("producer").empty())
            .await;
        assert_eq!(
            (answer.says().as_str(), answer.detail().as_str()),
            ("400 invalid body", detail),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_command_in_a_path_is_decoded_and_checked() {
    for (path, says) in [
        ("mail%2Fout%20%C3%A4", "200"),
        ("%20", "400 invalid command"),
        ("%FF", "400 invalid command"),
        ("a%00b", "400 invalid command"),
        (&"x".repeat(257), "400 invalid command"),
    ] {
        let answer = Node::new()
            .ask(ask(Method::GET, &format!("/admin/queues/{path}")).token("admin").empty())
            .await;
        assert!(answer.says().starts_with(says), "{path}: {}", answer.body);
        assert!(answer.status != 200 || answer.body.ends_with("mail/out ä"));
    }
}

#[tokio::test]
async fn what_cannot_be_a_task_is_not_found() {
    for id in ["x", "%FF", "0190A1B2-C3D4-7005-8000-0123456789AB", "..", "%7B3%7D"] {
        let path = format!("/tasks/{id}/nack");
        let answer = Node::new().ask(ask(Method::POST, &path).token("worker").empty()).await;
        assert_eq!(answer.says(), "404 not-found", "{id}");
    }
}

#[tokio::test]
async fn an_empty_lease_token_counts_as_none_and_a_garbled_one_does_not() {
    let path = "/tasks/0190a1b2-c3d4-7005-8000-0123456789ab/nack";
    for (token, says) in [
        (&b""[..], "None 0"),
        (b"  ", "None 0"),
        (b"abc", "Some(LeaseToken(…)) 0"),
        (b"\xff", "Some(LeaseToken(…)) 0"),
    ] {
        let value = http::HeaderValue::from_bytes(token).unwrap();
        let request = ask(Method::POST, path).token("worker").header("x-codeq-lease-token", value);
        assert_eq!(Node::new().ask(request.empty()).await.body, says);
    }
}

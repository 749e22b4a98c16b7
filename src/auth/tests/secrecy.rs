//! Nothing that came in with a token comes out in an error, a log line or `Debug`.

use std::io;
use std::sync::Mutex;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{Layer as _, filter, fmt};

use super::*;

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_key_or_claim_is_ever_shown() {
    let written = Written::default();
    let to = written.clone();
    let ours = filter::filter_fn(|metadata| metadata.target().starts_with("codeq"));
    let lines = fmt::layer().with_ansi(false).with_writer(move || to.clone()).with_filter(ours);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(lines));

    let signer = Signer::ed("MARK-kid");
    let mut idp = Idp::start(&[&signer]).await;
    idp.url.set_query(Some("key=MARK-url"));
    let tokens = Provider::Static(vec![StaticToken {
        subject: "MARK-subject".to_owned(),
        email: Some("MARK-email".to_owned()),
        ..fixed("MARK-static")
    }]);
    let multi = Provider::Multi(vec![tokens, jwks(&idp)]);
    let bench = Bench::new(Some(multi), Some(jwks(&idp)));
    let marked = |more| {
        let mut claims = claims(json!({"sub": "MARK-sub", "tid": "MARK tid", "role": "MARK-role",
            "scope": "MARK-scope", "eventTypes": ["MARK-type"], "workerGroup": "MARK-group"}));
        claims.as_object_mut().unwrap().extend(serde_json::from_value::<Map<_, _>>(more).unwrap());
        signer.token(&claims)
    };
    let mut tokens = vec!["MARK-static".to_owned(), "MARK.MARK.MARK".to_owned()];
    tokens.push(marked(json!({})));
    tokens.push(Signer::ed("MARK-other").token(&claims(json!({}))));
    let wrong = ["iss", "aud", "exp", "nbf", "sub", "scope", "eventTypes"];
    tokens.extend(wrong.map(|claim| marked(json!({claim: {"MARK": 1}}))));
    tokens.push(marked(json!({"iss": "MARK-iss"})));
    tokens.push(marked(json!({"aud": "MARK-aud"})));
    let mut shown = String::new();
    for answer in [None, Some(Answer::Text("MARK")), Some(Answer::Status(500))] {
        if let Some(answer) = answer {
            idp.answers(answer);
            bench.clock.advance(Duration::from_secs(11));
        }
        for token in &tokens {
            shown += &format!("{:?}", bench.auth.producer(token).await);
            shown += &format!("{:?}", bench.auth.worker(token).await);
            if let Err(denied) = bench.auth.either(token).await {
                shown += &format!("{denied} {}", denied.detail());
            }
        }
    }
    shown += &format!("{:?}", bench.auth);
    shown += &String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(shown.contains("token refused"), "the log was read");
    assert!(shown.contains("cannot fetch the key set"), "the log was read");
    let key = signer.jwk()["x"].as_str().unwrap().to_owned();
    let jwt_start = tokens[2].split('.').next().unwrap().to_owned();
    for secret in ["MARK", "mark", &key, &jwt_start, "127.0.0.1"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

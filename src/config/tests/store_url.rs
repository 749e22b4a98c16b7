//! Where Redis is.

use super::*;

/// What a client gets and what people see.
fn url(text: &str, password: Option<&str>) -> Result<(String, String), String> {
    RedisUrl::parse(text, password).map(|url| (url.expose().to_owned(), url.to_string()))
}

fn both(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

#[test]
fn every_flavour_is_known_by_its_scheme() {
    let scheme = |text| RedisUrl::parse(text, None).unwrap().scheme();
    assert_eq!(scheme("redis://h"), RedisScheme::Plain);
    assert_eq!(scheme("rediss://h:1/3"), RedisScheme::Tls);
    assert_eq!(scheme("redis+sentinel://a:1,b,[::1]:2/main/3"), RedisScheme::Sentinel);
    assert_eq!(scheme("redis+cluster://a:1,b:2"), RedisScheme::Cluster);
    assert_eq!(scheme("redis+unix:///run/redis.sock"), RedisScheme::Unix);
}

#[test]
fn what_the_client_gets_is_a_url_it_reads() {
    use ::redis::IntoConnectionInfo as _;
    for text in ["redis://u:p%2Fw@[::1]:7/2?protocol=resp3", "redis+unix:///tmp/a.sock?db=1&pass=x"]
    {
        let url = RedisUrl::parse(text, None).unwrap();
        url.expose().into_connection_info().unwrap();
    }
    assert_eq!(url("redis://h:1/2", None), Ok(both("redis://h:1/2")));
    assert_eq!(url("redis+unix:///a.sock", None), Ok(both("redis+unix:///a.sock")));
    assert_eq!(url("redis+cluster://a,b:2", None), Ok(both("redis+cluster://a,b:2")));
    assert_eq!(url("redis+sentinel://a,b/m", None), Ok(both("redis+sentinel://a,b/m")));
}

#[test]
fn a_password_beside_the_url_is_escaped_into_it_and_masked() {
    let table = [
        ("redis://h", "redis://:p%2Fw%40@h", "redis://:***@h"),
        ("redis://u@h:1/2", "redis://u:p%2Fw%40@h:1/2", "redis://u:***@h:1/2"),
        ("redis+cluster://a,b", "redis+cluster://:p%2Fw%40@a,b", "redis+cluster://:***@a,b"),
        (
            "redis+sentinel://u@a,b/m",
            "redis+sentinel://u:p%2Fw%40@a,b/m",
            "redis+sentinel://u:***@a,b/m",
        ),
        ("redis+unix:///a", "redis+unix:///a?pass=p%2Fw%40", "redis+unix:///a?pass=***"),
    ];
    for (text, given, shown) in table {
        assert_eq!(url(text, Some("p/w@")), Ok((given.to_owned(), shown.to_owned())), "{text}");
    }
    for text in ["redis://:x@h", "redis+unix:///a?pass=x", "redis+cluster://:x@a"] {
        assert!(url(text, Some("y")).unwrap_err().contains("redisPassword"), "{text}");
    }
}

#[test]
fn what_no_client_could_use_is_refused() {
    let long = format!("redis+unix:///{}", "a".repeat(120));
    let bad = [
        "",
        "h:1",
        "redis:h",
        "reddis://h",
        "redis://",
        "redis://:1",
        "redis://h:0",
        "redis://h:70000",
        "redis://h/db",
        "redis://h?db=1",
        "redis://h#x",
        "redis://:p/w@h",
        "redis+unix://h/a",
        "redis+unix:///",
        "redis+unix:///a?x=1",
        "redis+sentinel://a,b",
        "redis+sentinel://a,,b/m",
        "redis+sentinel://a/m/x",
        "redis+cluster://a/0",
        "redis+cluster://",
        &*long,
    ];
    for text in bad {
        assert!(url(text, None).is_err(), "{text}");
    }
    let rule = url("reddis://h", None).unwrap_err();
    assert!(rule.contains("did you mean redis?"), "{rule}");
}

#[test]
fn the_higher_layer_decides_between_url_and_address() {
    let found = |yaml, env: &[(&str, &str)]| load_from(yaml, env).map(|s| s.redis.url.to_string());
    assert_eq!(found("redisAddr: a:1", &[]).unwrap(), "redis://a:1");
    let env = [("REDIS_ADDR", "b:2"), ("REDIS_PASSWORD", "x")];
    assert_eq!(found("redis: { url: 'redis://a:1' }", &env).unwrap(), "redis://:***@b:2");
    assert_eq!(found("redisAddr: a:1", &[("REDIS_URL", "redis://b")]).unwrap(), "redis://b");
    let said = found("{ redisAddr: a:1, redis: { url: 'redis://b' } }", &[]).unwrap_err();
    assert_eq!(said.problems[0].key, "redisAddr");
}

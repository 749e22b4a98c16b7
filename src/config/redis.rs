use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::read::{Reader, one_of};

/// The store.
#[derive(Clone, Debug)]
pub struct Redis {
    /// Where it is.
    pub url: RedisUrl,
    /// Begins every key, within its hash tag.
    pub key_prefix: String,
    /// What an acknowledged write has survived.
    pub durability: Durability,
    /// Connections of the pool for rare work.
    pub pool_size: usize,
    /// Time to open a connection.
    pub connect_timeout: Duration,
    /// Time for the answer to one call.
    pub command_timeout: Duration,
    /// Above this share of `maxmemory` creates are refused, 0.0 < ratio <= 1.0.
    pub soft_memory_ratio: f64,
}

/// What an acknowledged write has survived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The primary has it.
    Async,
    /// A replica has it.
    Replicated,
    /// The append-only file has it.
    Synced,
}

impl Durability {
    /// The name in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Async => "async",
            Self::Replicated => "replicated",
            Self::Synced => "synced",
        }
    }
}

/// The flavour a URL asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisScheme {
    /// `redis://host:port/db`
    Plain,
    /// `rediss://host:port/db`
    Tls,
    /// `redis+sentinel://host:port,host:port/master`
    Sentinel,
    /// `redis+cluster://host:port,host:port`
    Cluster,
    /// `redis+unix:///path?db=0&user=u&pass=p`
    Unix,
}

impl RedisScheme {
    pub(super) const ALL: [Self; 5] =
        [Self::Plain, Self::Tls, Self::Sentinel, Self::Cluster, Self::Unix];

    /// As a URL spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "redis",
            Self::Tls => "rediss",
            Self::Sentinel => "redis+sentinel",
            Self::Cluster => "redis+cluster",
            Self::Unix => "redis+unix",
        }
    }
}

/// Where Redis is. `Debug` and `Display` show `***` for the password.
#[derive(Clone)]
pub struct RedisUrl {
    text: SecretString,
    shown: String,
    scheme: RedisScheme,
}

impl RedisUrl {
    /// The flavour.
    pub fn scheme(&self) -> RedisScheme {
        self.scheme
    }

    /// All of it, password included: for the client, never for a log line. With
    /// [`RedisScheme::Plain`], [`RedisScheme::Tls`] and [`RedisScheme::Unix`] it is a URL the
    /// `redis` crate reads.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Longest path of a Unix socket that the system takes.
const MAX_SOCKET_PATH_BYTES: usize = 107;

impl Redis {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let url = read_url(r);
        let durabilities = [Durability::Async, Durability::Replicated, Durability::Synced];
        let key_prefix = r.text("redis.keyPrefix").unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if key_prefix.is_empty() || key_prefix.len() > 64 || !key_prefix.chars().all(plain) {
            r.problem("redis.keyPrefix", "must be 1 to 64 letters, digits, dots, _ or -");
        }
        let soft_memory_ratio = r.ratio("redis.softMemoryRatio");
        if soft_memory_ratio <= 0.0 {
            r.problem("redis.softMemoryRatio", "must be more than 0: it would refuse every create");
        }
        Self {
            url,
            key_prefix,
            durability: r.choice("redis.durability", &durabilities.map(|d| (d.as_str(), d))),
            pool_size: r.int("redis.poolSize", 1..=1024),
            connect_timeout: r.millis("redis.connectTimeoutMs", 1..=60_000),
            command_timeout: r.millis("redis.commandTimeoutMs", 1..=60_000),
            soft_memory_ratio,
        }
    }
}

/// `redis.url`, or `redisAddr` when that was set in a higher layer; with `redisPassword`.
fn read_url(r: &mut Reader<'_>) -> RedisUrl {
    let (url, addr) = (r.origin("redis.url").rank(), r.origin("redisAddr").rank());
    if addr > 0 && addr == url {
        r.problem("redisAddr", "stands in place of redis.url: set only one of them");
    }
    let (key, text) = if addr > url {
        ("redisAddr", format!("redis://{}", r.text("redisAddr").unwrap_or_default()))
    } else {
        ("redis.url", r.text("redis.url").unwrap_or_default())
    };
    let password = r.text("redisPassword");
    let parsed = match key {
        "redisAddr" if text.matches("://").count() > 1 || text.contains('@') => {
            Err("must be host:port; a URL goes to redis.url".to_owned())
        }
        _ => RedisUrl::parse(&text, password.as_deref()),
    };
    parsed.unwrap_or_else(|rule| {
        match key {
            // Somebody's password may stand there after all.
            "redisAddr" if text.contains('@') => r.problem_at(key, key, &rule),
            _ => r.problem(key, rule),
        }
        RedisUrl { text: "".into(), shown: String::new(), scheme: RedisScheme::Plain }
    })
}

impl RedisUrl {
    /// Reads a URL; `password` is for one that has none. The error is the rule it broke and repeats
    /// nothing of the text.
    pub(super) fn parse(text: &str, password: Option<&str>) -> Result<Self, String> {
        let names = RedisScheme::ALL.map(RedisScheme::as_str);
        let (name, rest) = text.trim().split_once("://").ok_or_else(|| {
            format!(
                "must be a URL that begins with {}",
                names.map(|n| format!("{n}://")).join(", ")
            )
        })?;
        let scheme = RedisScheme::ALL.into_iter().find(|s| s.as_str() == name.to_ascii_lowercase());
        let Some(scheme) = scheme else {
            return Err(format!("its scheme {}", one_of(name, names.into_iter())));
        };
        if rest.contains('#') {
            return Err("must not hold #: write %23 in a password".to_owned());
        }
        match scheme {
            RedisScheme::Plain | RedisScheme::Tls => single(scheme, rest, password),
            RedisScheme::Unix => unix(rest, password),
            RedisScheme::Sentinel | RedisScheme::Cluster => several(scheme, rest, password),
        }
    }

    fn new(scheme: RedisScheme, text: String, shown: String) -> Self {
        Self { text: text.into(), shown, scheme }
    }
}

fn single(scheme: RedisScheme, rest: &str, password: Option<&str>) -> Result<RedisUrl, String> {
    let mut url = host(&format!("{}://{rest}", scheme.as_str()))?;
    let database = url.path().trim_start_matches('/');
    if !database.is_empty() && database.parse::<u32>().is_err() {
        return Err("its path must be the number of a database".to_owned());
    }
    known_query(&url, &["protocol"])?;
    add_password(&mut url, password)?;
    let text = url.to_string();
    if url.password().is_some() {
        url.set_password(Some("***")).map_err(|()| BAD_HOST.to_owned())?;
    }
    Ok(RedisUrl::new(scheme, text, url.to_string()))
}

fn unix(rest: &str, password: Option<&str>) -> Result<RedisUrl, String> {
    let rule = "must name the socket by an absolute path, as redis+unix:///run/redis.sock";
    let mut url = Url::parse(&format!("redis+unix://{rest}")).map_err(|_| rule.to_owned())?;
    let path = url.to_file_path().map_err(|()| rule.to_owned())?;
    if url.has_host() && url.host_str() != Some("") || path.as_os_str().len() < 2 {
        return Err(rule.to_owned());
    }
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!("the socket's path must be at most {MAX_SOCKET_PATH_BYTES} bytes"));
    }
    known_query(&url, &["db", "user", "pass", "protocol"])?;
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    let has_password = pairs.iter().any(|(name, _)| name == "pass");
    if let Some(password) = password {
        if has_password {
            return Err(TWO_PASSWORDS.to_owned());
        }
        url.query_pairs_mut().append_pair("pass", password);
    }
    let text = url.to_string();
    let mut shown = url;
    if has_password || password.is_some() {
        let visible = pairs.iter().filter(|(name, _)| name != "pass");
        shown.query_pairs_mut().clear().extend_pairs(visible).append_pair("pass", "***");
    }
    Ok(RedisUrl::new(RedisScheme::Unix, text, shown.to_string()))
}

/// Sentinels or cluster nodes: hosts separated by commas, which no URL parser takes.
fn several(scheme: RedisScheme, rest: &str, password: Option<&str>) -> Result<RedisUrl, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (format!("{user_info}@"), hosts),
        None => (String::new(), authority),
    };
    for one in hosts.split(',') {
        host(&format!("redis://{one}"))?;
    }
    match scheme {
        RedisScheme::Sentinel => {
            let (master, database) = path.split_once('/').unwrap_or((path, "0"));
            if master.is_empty() || database.parse::<u32>().is_err() || path.contains('?') {
                return Err("its path must be the name of the master".to_owned());
            }
        }
        _ if !path.is_empty() => return Err("must end after the hosts".to_owned()),
        _ => {}
    }
    // The parser takes the user info apart and escapes the password.
    let mut user = host(&format!("redis://{user_info}host"))?;
    add_password(&mut user, password)?;
    let spell = |user: &Url| {
        let user = user.as_str().trim_start_matches("redis://").trim_end_matches("host");
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{}://{user}{hosts}{slash}{path}", scheme.as_str())
    };
    let text = spell(&user);
    if user.password().is_some() {
        user.set_password(Some("***")).map_err(|()| BAD_HOST.to_owned())?;
    }
    Ok(RedisUrl::new(scheme, text, spell(&user)))
}

const BAD_HOST: &str = "must name a host, and a port from 1 to 65535 if any; in a password write \
                        every special character as %XX";
const TWO_PASSWORDS: &str = "has a password, and redisPassword is another: set only one of them";

fn host(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|_| BAD_HOST.to_owned())?;
    let named = url.host_str().is_some_and(|host| !host.is_empty());
    if named && url.port() != Some(0) { Ok(url) } else { Err(BAD_HOST.to_owned()) }
}

fn add_password(url: &mut Url, password: Option<&str>) -> Result<(), String> {
    match password {
        None => Ok(()),
        Some(_) if url.password().is_some() => Err(TWO_PASSWORDS.to_owned()),
        Some(password) => url.set_password(Some(password)).map_err(|()| BAD_HOST.to_owned()),
    }
}

fn known_query(url: &Url, known: &[&str]) -> Result<(), String> {
    match url.query_pairs().all(|(name, _)| known.contains(&&*name)) {
        true => Ok(()),
        false => Err(format!("after ? only {} may stand", known.join(", "))),
    }
}

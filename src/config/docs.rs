use super::keys::{ENV_ONLY, KEYS};

/// `docs/configuration.md`, made from `defaults.yaml`; a test holds the page to it.
pub fn reference() -> String {
    let mut page = String::from(PREFACE);
    page.push_str("| key | environment | default | meaning |\n|---|---|---|---|\n");
    for key in KEYS.iter() {
        let file = if key.is_secret() { ", `…_FILE`" } else { "" };
        let env = key.env.as_ref().map_or("–".to_owned(), |env| format!("`{env}`{file}"));
        page.push_str(&format!(
            "| `{}` | {env} | {} | {} |\n",
            key.name,
            default(&key.default),
            key.meaning
        ));
    }
    page.push_str("\n## Environment only\n\n");
    page.push_str(
        "`TRACING_…` wins over `OTEL_…`, which wins over the file. `OTEL_BSP_*` and the ",
    );
    page.push_str("span limits are read by the SDK as OpenTelemetry describes them.\n\n");
    page.push_str("| environment | default | meaning |\n|---|---|---|\n");
    for (name, value, meaning) in ENV_ONLY {
        page.push_str(&format!("| `{name}` | {} | {meaning} |\n", default(value)));
    }
    page
}

fn default(text: &str) -> String {
    match text {
        "" | "null" | "[]" | "{}" => "–".to_owned(),
        text => format!("`{text}`"),
    }
}

const PREFACE: &str = "\
# Configuration

<!-- Made from src/config/defaults.yaml: `UPDATE_DOCS=1 cargo test --lib config::` writes it. -->

Three layers, each over the one before: the defaults below, a YAML file (`--config` or
`CODEQ_CONFIG`), the environment. What is empty or null counts as unset. Everything is checked once,
at start: every problem is told in one message that names key, value and rule, and the process exits
with 2. `codeq config check` does only this; `codeq config show` prints what is in effect, secrets
masked.

- A list in a variable is separated by commas.
- A secret may come from a file that `<NAME>_FILE` names: one trailing newline is dropped; setting
  both is an error.
- A key of the file that codeq does not know is an error, unless other CodeQ back ends know it
  (`persistence…`, `raft`, `cluster`, `workerStreamAddr`, `producerStreamAddr`,
  `requeueInspectLimit`, `timezone`, `identityServiceUrl`): that is a warning.
- `env: production` requires a provider of producer and of worker tokens (a key set with its issuer,
  or one named explicitly) and `webhookHmacSecret`.
- This version runs `redis://` and `redis+unix://` with `durability: async`; the other flavours are
  checked, and refused by `codeq serve`.

## Token providers

`producerAuthConfig` and `workerAuthConfig` hold what the provider named beside them needs:

```yaml
# static: one token, or a list
producerAuthProvider: static
producerAuthConfig:
  token: a-long-random-text
  subject: billing
  scopes: [\"codeq:admin\"]
  raw: { tid: acme }
# jwks: the flat keys (workerJwksUrl, workerIssuer, …) fill what is left out
workerAuthProvider: jwks
workerAuthConfig:
  jwksUrl: https://id.example.com/keys
  issuer: https://id.example.com
  audience: codeq-worker
  clockSkewSeconds: 60
  httpTimeoutMs: 5000
```

`multi` takes `{\"providers\": [{\"type\": \"jwks\", \"config\": {…}}, {\"type\": \"static\", \"config\": {…}}]}`,
two to four of the others; the first that accepts a token decides.

## Keys

";

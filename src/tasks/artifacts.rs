//! What a worker stored, or wants stored, beside its result.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::{App, NotStored, Submitter};
use crate::http::{self, Error, Object};
use crate::model::TaskId;
use crate::objects::{Content, Folder, Objects};

/// Something a worker made: a link to it, or its bytes, which are stored and linked.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// 1..255 bytes, no `/`, `\` or control character, not `.` or `..`.
    name: String,
    /// Where it is; or else `contentBase64`.
    #[serde(default)]
    url: Option<String>,
    /// Its bytes, in standard base64 with padding. The limit of the body is theirs too.
    #[serde(default)]
    content_base64: Option<String>,
    /// The media type of `contentBase64`: at most 255 visible ASCII characters and spaces.
    #[serde(default)]
    #[schema(default = "application/octet-stream", max_length = 255)]
    content_type: Option<String>,
}

/// Most artifacts of one verdict.
const MAX_ARTIFACTS: usize = 100;
/// Longest name of an artifact, in bytes.
const MAX_NAME: usize = 255;
/// Longest media type, in bytes.
const MAX_TYPE: usize = 255;
/// What bytes are of which nobody says more.
const ANY_TYPE: &str = "application/octet-stream";

/// Artifacts that were checked.
#[derive(Default)]
pub(super) struct Artifacts {
    all: Vec<Checked>,
    contents: Vec<Content>,
}

struct Checked {
    name: String,
    /// `None`: its bytes are among the contents.
    url: Option<String>,
}

/// The artifacts of one submit, where they are now.
pub(super) struct Stored {
    /// `None`: there were no bytes.
    folder: Option<Folder>,
    /// Whether something lies in the folder.
    full: bool,
    /// The JSON text of the record.
    pub(super) record: Option<Vec<u8>>,
    /// How many there are, links included.
    pub(super) count: usize,
}

impl Artifacts {
    /// Checks form and size; nothing is stored before all of a verdict is known to be sound.
    pub(super) fn check(asked: Option<Vec<Object<Artifact>>>) -> http::Result<Self> {
        let asked = asked.unwrap_or_default();
        if asked.len() > MAX_ARTIFACTS {
            return Err(Error::InvalidRequestBody("artifacts: at most 100".into()));
        }
        let mut checked = Self::default();
        for (at, Object(artifact)) in asked.into_iter().enumerate() {
            let wrong = |what| Error::InvalidRequestBody(format!("artifacts[{at}].{what}").into());
            checked.add(artifact).map_err(wrong)?;
        }
        checked.names_of_contents_stand_alone()?;
        Ok(checked)
    }

    fn add(&mut self, artifact: Artifact) -> Result<(), &'static str> {
        let Artifact { name, url, content_base64, content_type } = artifact;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err("name: 1 to 255 bytes");
        }
        if matches!(name.as_str(), "." | "..")
            || name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control())
        {
            return Err("name: no path, no control character");
        }
        // Existing clients send what they leave out as "".
        let given = content_base64.filter(|text| !text.is_empty() || url.is_none());
        let url = url.filter(|url| !url.is_empty());
        match (&url, given) {
            (Some(_), Some(_)) => return Err("url: not beside contentBase64"),
            (None, None) => return Err("url: needed, or contentBase64"),
            (Some(_), None) => {}
            (None, Some(text)) => {
                let bytes = STANDARD
                    .decode(text)
                    .map_err(|_| "contentBase64: standard base64 with padding is expected")?;
                let kind = content_type.filter(|kind| !kind.is_empty());
                let kind = kind.unwrap_or_else(|| ANY_TYPE.to_owned());
                if kind.len() > MAX_TYPE || !kind.bytes().all(|b| (b' '..=b'~').contains(&b)) {
                    return Err("contentType: at most 255 visible ASCII characters");
                }
                self.contents.push(Content { name: name.clone(), kind, bytes: bytes.into() });
            }
        }
        self.all.push(Checked { name, url });
        Ok(())
    }

    /// Two artifacts of one name would be one object. Links may share theirs, as they always could.
    fn names_of_contents_stand_alone(&self) -> http::Result<()> {
        let contents: HashSet<&str> = self.contents.iter().map(|c| c.name.as_str()).collect();
        let mut seen = HashSet::new();
        for (at, artifact) in self.all.iter().enumerate() {
            let name = artifact.name.as_str();
            if contents.contains(name) && !seen.insert(name) {
                let rule = format!("artifacts[{at}].name: an artifact with content bears it too");
                return Err(Error::InvalidRequestBody(rule.into()));
            }
        }
        Ok(())
    }

    /// Stores what is to be stored. On an error the submit ends, and the lease stays.
    pub(super) async fn store(
        self,
        app: &App,
        id: TaskId,
        by: Submitter<'_>,
    ) -> http::Result<Stored> {
        let count = self.all.len();
        if self.contents.is_empty() {
            let record = self.record(None);
            return Ok(Stored { folder: None, full: false, record, count });
        }
        let folder = Folder::new(by.tenant, id);
        let record = self.record(Some((&app.objects, &folder)));
        let full = match app.store_artifacts(by, &folder, &self.contents).await {
            Ok(full) => full,
            Err(NotStored::Unknown(error)) => return Err(unless_unknown(Error::from(error))),
            Err(NotStored::Failed(_)) => return Err(Error::StoreUnavailable),
        };
        Ok(Stored { folder: Some(folder), full, record, count })
    }

    /// As the record keeps them.
    fn record(&self, stored: Option<(&Objects, &Folder)>) -> Option<Vec<u8>> {
        #[derive(Serialize)]
        struct Link<'a> {
            name: &'a str,
            url: &'a str,
        }
        if self.all.is_empty() {
            return None;
        }
        let urls: Vec<String> = self
            .all
            .iter()
            .map(|artifact| match (&artifact.url, stored) {
                (Some(url), _) => url.clone(),
                (None, Some((objects, folder))) => objects.url(folder, &artifact.name),
                (None, None) => String::new(),
            })
            .collect();
        let links: Vec<_> =
            self.all.iter().zip(&urls).map(|(a, url)| Link { name: &a.name, url }).collect();
        Some(serde_json::to_vec(&links).expect("strings are JSON"))
    }
}

/// A folder that may or may not have been written down changes nothing for the client.
fn unless_unknown(error: Error) -> Error {
    match error {
        Error::OutcomeUnknown => Error::StoreUnavailable,
        other => other,
    }
}

impl Stored {
    /// What the submit script takes.
    pub(super) fn folder(&self) -> String {
        self.folder.as_ref().map(Folder::name).unwrap_or_default()
    }

    /// No record names them: they are deleted behind the answer.
    pub(super) fn are_not_wanted(self, app: &App) {
        if let Some(folder) = self.folder.filter(|_| self.full) {
            app.drop_artifacts(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(artifacts: Value) -> Result<Artifacts, String> {
        let asked: Vec<Object<Artifact>> = serde_json::from_value(artifacts).unwrap();
        Artifacts::check(Some(asked)).map_err(|error| error.detail().unwrap().into_owned())
    }

    #[test]
    fn content_is_decoded_and_typed() {
        let checked = check(json!([
            {"name": "a", "contentBase64": "aGk=", "contentType": "text/plain; charset=utf-8"},
            {"name": "b", "url": "", "contentBase64": "AA=="},
            {"name": "empty", "contentBase64": ""},
            {"name": "link", "url": "http://x", "contentBase64": "", "contentType": "\u{1}"},
        ]))
        .unwrap();
        let contents: Vec<_> = checked
            .contents
            .iter()
            .map(|c| (c.name.as_str(), c.kind.as_str(), &c.bytes[..]))
            .collect();
        assert_eq!(
            contents,
            [
                ("a", "text/plain; charset=utf-8", &b"hi"[..]),
                ("b", ANY_TYPE, b"\0"),
                ("empty", ANY_TYPE, b""),
            ]
        );
        assert_eq!(checked.all.len(), 4);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let base64 = "artifacts[1].contentBase64: standard base64 with padding is expected";
        let kind = "artifacts[1].contentType: at most 255 visible ASCII characters";
        let of_type = |kind: &str| json!({"name": "b", "contentBase64": "", "contentType": kind});
        for (second, refusal) in [
            (json!({"name": "b"}), "artifacts[1].url: needed, or contentBase64"),
            (
                json!({"name": "b", "url": "", "contentBase64": ""}),
                "artifacts[1].url: needed, or contentBase64",
            ),
            (
                json!({"name": "b", "url": "u", "contentBase64": "AA=="}),
                "artifacts[1].url: not beside contentBase64",
            ),
            (json!({"name": "b", "contentBase64": "AA"}), base64),
            (json!({"name": "b", "contentBase64": "A-_="}), base64),
            (json!({"name": "b", "contentBase64": "AA==\n"}), base64),
            (json!({"name": "b", "contentBase64": "AB=="}), base64),
            (of_type("text/plain\r\nx: y"), kind),
            (of_type("ü"), kind),
            (of_type(&"x".repeat(256)), kind),
            (
                json!({"name": "a", "contentBase64": ""}),
                "artifacts[1].name: an artifact with content bears it too",
            ),
            (
                json!({"name": "a", "url": "u"}),
                "artifacts[1].name: an artifact with content bears it too",
            ),
        ] {
            let asked = json!([{"name": "a", "contentBase64": "aGk="}, second]);
            assert_eq!(check(asked).err().as_deref(), Some(refusal), "{second}");
        }
    }

    #[test]
    fn links_may_share_a_name() {
        let twice = json!([{"name": "a", "url": "u"}, {"name": "a", "url": "v"}]);
        let record = check(twice.clone()).unwrap().record(None).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&record).unwrap(), twice);
    }
}

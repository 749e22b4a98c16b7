//! From the URL of the settings, and the variables of the environment, to a store.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use url::Url;

use super::Failed;

/// How often the library repeats a request, and for how long. The submit repeats as a whole.
const RETRIES: usize = 2;
const RETRIES_WITHIN: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Where artifacts go.
pub(super) struct Place {
    url: Url,
    scheme: ObjectStoreScheme,
    prefix: Path,
}

/// A store that objects can be put into.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Files have no media type.
    pub(super) keeps_types: bool,
    prefix: Path,
}

impl Connected {
    /// The path of what stands below the place.
    pub(super) fn path(&self, below: &str) -> Path {
        self.prefix.parts().chain(Path::from(below).parts()).collect()
    }
}

impl Place {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text).context("artifactStore is no URL")?;
        let (scheme, prefix) =
            ObjectStoreScheme::parse(&url).context("artifactStore is no URL of a store")?;
        Ok(Self { url, scheme, prefix })
    }

    /// Every letter of `below` is one that a URL takes as it is.
    pub(super) fn url(&self, below: &str) -> String {
        format!("{}/{below}", self.url.as_str().trim_end_matches('/'))
    }

    /// Reads the environment; asks nobody but, for files, the disk. The variables are those that the
    /// clouds' own tools take: `AWS_…`, `GOOGLE_…`, `AZURE_…`.
    pub(super) async fn connect(&self) -> Result<Connected, Failed> {
        if self.scheme == ObjectStoreScheme::Local {
            return self.directory().await;
        }
        let url = self.url.as_str();
        let built: object_store::Result<Arc<dyn ObjectStore>> = match self.scheme {
            ObjectStoreScheme::AmazonS3 => {
                let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry());
                builder.build().map(|store| Arc::new(store) as _)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let builder =
                    GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry());
                builder.build().map(|store| Arc::new(store) as _)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry());
                builder.build().map(|store| Arc::new(store) as _)
            }
            _ => return Err(Failed::Setup),
        };
        // The library's text could repeat the value of a variable.
        let store = built.map_err(|_| Failed::Setup)?;
        Ok(Connected { store, keeps_types: true, prefix: self.prefix.clone() })
    }

    async fn directory(&self) -> Result<Connected, Failed> {
        let directory = self.url.to_file_path().map_err(|()| Failed::Setup)?;
        tokio::fs::create_dir_all(&directory).await.map_err(|error| Failed::of_io(&error))?;
        let files = LocalFileSystem::new_with_prefix(&directory).map_err(|e| Failed::of(&e))?;
        // An artifact that was accepted survives the machine's fall, as the record does.
        let files = files.with_fsync(true).with_automatic_cleanup(true);
        Ok(Connected { store: Arc::new(files), keeps_types: false, prefix: Path::default() })
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { max_backoff: LONGEST_PAUSE, ..BackoffConfig::default() },
        max_retries: RETRIES,
        retry_timeout: RETRIES_WITHIN,
    }
}

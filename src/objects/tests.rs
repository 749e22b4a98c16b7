use std::path::Path as File;

use super::*;
use crate::model::{TaskId, TenantId};

fn folder_of(tenant: &str) -> Folder {
    let task = TaskId::parse("00000000-0000-7003-8000-000000000001").unwrap();
    Folder::new(&TenantId::parse(tenant).unwrap(), task)
}

fn content(name: &str, bytes: &[u8]) -> Content {
    let bytes = Bytes::copy_from_slice(bytes);
    Content { name: name.into(), kind: "text/plain".into(), bytes }
}

fn files(directory: &File) -> (Objects, Metrics) {
    let metrics = Metrics::new();
    let url = url::Url::from_directory_path(directory).unwrap();
    (Objects::new(url.as_str(), metrics.clone()).unwrap(), metrics)
}

fn count(metrics: &Metrics, result: ArtifactResult) -> u64 {
    metrics.artifact_operations.with(result).get()
}

#[tokio::test]
async fn what_is_stored_is_what_the_url_names() {
    let place = tempfile::tempdir().unwrap();
    let (objects, metrics) = files(&place.path().join("made when needed"));
    let folder = folder_of("acme");
    let long = "ü".repeat(127);
    let contents = [content("a b#1.txt", b"one"), content("empty", b""), content(&long, b"three")];
    objects.put_all(&folder, &contents).await.unwrap();
    for content in &contents {
        let url = url::Url::parse(&objects.url(&folder, &content.name)).unwrap();
        let read = std::fs::read(url.to_file_path().unwrap()).unwrap();
        assert_eq!(read, content.bytes, "{url}");
    }
    assert_eq!(count(&metrics, ArtifactResult::PutOk), 3);
    assert_eq!(metrics.artifact_bytes.with(Operation::Put).get(), 8);
}

#[tokio::test]
async fn a_folder_is_deleted_alone_and_an_empty_one_is_no_failure() {
    let place = tempfile::tempdir().unwrap();
    let (objects, metrics) = files(place.path());
    let (mine, theirs) = (folder_of("acme"), folder_of("beta"));
    let again = folder_of("acme");
    for folder in [&mine, &theirs, &again] {
        objects.put_all(folder, &[content("a", b"1"), content("b", b"2")]).await.unwrap();
    }
    assert_eq!(objects.delete_all(&mine).await, Ok(2));
    assert_eq!(objects.delete_all(&mine).await, Ok(0));
    assert!(!place.path().join(mine.path()).exists(), "no empty directory is left");
    for folder in [&theirs, &again] {
        assert!(place.path().join(folder.object("a")).exists());
    }
    assert_eq!(count(&metrics, ArtifactResult::DeleteOk), 2);
    assert_eq!(metrics.artifact_bytes.with(Operation::Delete).get(), 2);
}

#[tokio::test]
async fn a_failure_is_a_class_and_is_counted() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let (objects, metrics) = files(&file.join("below"));
    let failed = objects.put_all(&folder_of("acme"), &[content("a", b"1")]).await;
    assert_eq!(failed, Err(Failed::Missing));
    assert_eq!(count(&metrics, ArtifactResult::PutError), 1);
    assert_eq!(metrics.artifact_bytes.with(Operation::Put).get(), 0);
    assert_eq!(objects.look().await, Err(Failed::Missing));
    assert_eq!(objects.look().await, Err(Failed::Missing));
    assert_eq!(count(&metrics, ArtifactResult::GetError), 1, "the second look was remembered");
}

#[test]
fn urls_name_bucket_prefix_and_key() {
    for (place, url) in [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/some/where/", "s3://bucket/some/where/"),
        ("gs://bucket/x", "gs://bucket/x/"),
        ("az://container/x", "az://container/x/"),
        ("file:///var/lib/codeq", "file:///var/lib/codeq/"),
    ] {
        let objects = Objects::new(place, Metrics::new()).unwrap();
        let folder = folder_of("acme");
        let named = objects.url(&folder, "a b");
        assert_eq!(named, format!("{url}{}/a=20b", folder.path()));
    }
}

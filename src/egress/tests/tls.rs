//! Certificates, and what TLS agrees on.

use std::io::Write as _;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::config::Webhook;
use crate::egress::testing::{Names, Receiver, send, settings_with_receivers};
use crate::egress::{Egress, Outcome};

/// An authority of our own, as a file, and a receiver that it vouches for as `a.test`.
async fn receiver_with_authority(protocols: &[&str]) -> (NamedTempFile, Receiver) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(certificate.pem().as_bytes()).unwrap();

    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let own = CertificateParams::new(["a.test".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();

    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = Receiver::serving(move |stream, seen| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.ok()?;
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                return serve_http2(stream).await;
            }
            loop {
                seen.request(&mut stream).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
            }
        }
    })
    .await;
    (file, receiver)
}

/// Answers 202, which HTTP/1.1 above does not.
async fn serve_http2(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> Option<()> {
    let service =
        hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
            http_body_util::BodyExt::collect(request.into_body() as hyper::body::Incoming).await?;
            let answer = http::Response::builder().status(202).body(String::new()).unwrap();
            Ok::<_, hyper::Error>(answer)
        });
    hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await
        .ok()
}

fn egress(authority: Option<&NamedTempFile>) -> Egress {
    let extra_ca_file = authority.map(|file| file.path().to_owned());
    let settings = Webhook { extra_ca_file, ..settings_with_receivers() };
    let names = Names::of(&[("a.test", &[&["127.0.0.1"]]), ("b.test", &[&["127.0.0.1"]])]);
    Egress::with_lookup(&settings, names).unwrap()
}

fn secure(receiver: &Receiver, host: &str) -> String {
    receiver.url(host).replace("http://", "https://")
}

#[tokio::test]
async fn an_authority_of_the_operator_is_trusted_and_no_unknown_one() {
    let (authority, receiver) = receiver_with_authority(&[]).await;
    let trusting = egress(Some(&authority));
    assert_eq!(send(&trusting, &secure(&receiver, "a.test")).await.outcome, Outcome::Success);
    assert_eq!(send(&egress(None), &secure(&receiver, "a.test")).await.outcome, Outcome::Tls);
    // Not for a name that the certificate does not have, nor for an address.
    for host in ["b.test", "127.0.0.1"] {
        let attempt = send(&trusting, &secure(&receiver, host)).await;
        assert_eq!(attempt.outcome, Outcome::Tls, "{host}");
    }
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_speaks_no_tls_is_class_tls() {
    let babbling = Receiver::serving(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.ok()
    })
    .await;
    assert_eq!(send(&egress(None), &secure(&babbling, "a.test")).await.outcome, Outcome::Tls);
}

#[tokio::test]
async fn http2_is_spoken_where_both_can() {
    let (authority, receiver) = receiver_with_authority(&["h2", "http/1.1"]).await;
    let egress = egress(Some(&authority));
    let url = secure(&receiver, "a.test");
    for _ in 0..3 {
        assert_eq!(send(&egress, &url).await.status, Some(202));
    }
    assert_eq!(receiver.connections(), 1);
    let (authority, receiver) = receiver_with_authority(&["http/1.1"]).await;
    let egress = self::egress(Some(&authority));
    assert_eq!(send(&egress, &secure(&receiver, "a.test")).await.status, Some(200));
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused_at_start() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"no certificate").unwrap();
    let path = file.path().to_owned();
    let with = |path: std::path::PathBuf| {
        let settings = Webhook { extra_ca_file: Some(path), ..settings_with_receivers() };
        format!("{:#}", Egress::new(&settings).unwrap_err())
    };
    assert!(with(path.clone()).ends_with("no certificate in it"), "{}", with(path));
    assert!(with("missing.pem".into()).starts_with("webhook.extraCaFile (missing.pem): "));
}

//! A reader of standard output that reads no more, and who wrote a line.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::lines_of;
use crate::support::process::Process;
use crate::support::{Client, Redis, Scrape, Settings};

#[tokio::test]
async fn l13_nobody_reads_the_log_and_requests_go_on() {
    let redis = Redis::start().await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_codeq"));
    let settings = Settings::on(&redis);
    command
        .arg("serve")
        .env_clear()
        .envs(settings.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut process = Process::start(&mut command);
    // Read up to the first line that names the address, and never again.
    let mut reader = BufReader::new(process.child().stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).expect("a line");
        if let Some(address) = line["context"]["address"].as_str() {
            break address.to_owned();
        }
    };
    let node = Client::anonymous(&format!("http://{address}"));
    crate::support::eventually("the node is ready", || async {
        (node.get("//readyz").await.status == 200).then_some(())
    })
    .await;
    let dropped = || async {
        let scrape = Scrape::of(node.get("//metrics").await.text());
        scrape.value("codeq_log_lines_dropped_total")
    };
    assert_eq!(dropped().await, 0.0);
    // Long lines, so that the pipe and what waits behind it are soon full.
    let command = "flood".repeat(20);
    let batch = json!({"tasks": vec![json!({"command": command, "payload": 1}); 100]});
    let producer = node.with_token("producer");
    for round in 1..=200 {
        producer
            .post("/tasks/batch", batch.clone())
            .header("X-Request-Id", &"r".repeat(128))
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
            .await
            .json_of(200);
        if round % 10 == 0 && dropped().await > 100.0 {
            break;
        }
    }
    assert!(dropped().await > 100.0, "lines are dropped, and counted");
    producer.created("after").await;
    node.with_token("worker").claimed("after").await;
    drop(reader);
}

#[tokio::test]
async fn l14_a_line_names_the_node_that_its_profiles_name() {
    let redis = Redis::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let node = Settings::on(&redis)
        .set("HOSTNAME", "pod-7")
        .set("CODEQ_PPROF", "1")
        .set("CODEQ_PPROF_ADDR", &address)
        .start()
        .await;
    let index = Client::anonymous(&format!("http://{address}")).get("//debug/pprof/").await;
    assert_eq!(index.headers["x-codeq-instance"], "pod-7");
    let others = lines_of(&node, |line| line["instance"] != "pod-7");
    assert!(others.is_empty(), "{others:#?}");
}

//! The api-server on a socket: it serves, refuses a taken address, and ends when it is told to, whatever waits.

use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Embedded, Store, Transaction};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Send a request.
async fn send(address: std::net::SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    stream
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    let mut stream = send(address, path).await;
    stream.read_to_string(&mut answer).await.expect("a whole answer");
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_until_it_is_told_to_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: Arc<dyn Store> = Arc::new(Embedded::open(folder.path()).expect("it is new"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let taken = api_server::run(
        store.clone(),
        api_server::Options::new(address),
        std::future::pending(),
    )
    .await;
    assert!(matches!(taken, Err(api_server::RunApiServer::Listen { address: told, .. }) if told == address));

    let operation = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let record = format!(
        "{{\"id\":\"{operation}\",\"wish\":{{\"kind\":\"create-pool\",\"pool\":\"{operation}\"}},\
         \"begun_ms\":0,\"state\":{{\"kind\":\"running\",\"waits_for\":[]}}}}"
    );
    let put = Transaction::default().put(format!("operations/{operation}"), record);
    store.commit(put).await.expect("there");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let options = api_server::Options::new(address);
    let shutdown = async { _ = stopped.await };
    let server = tokio::spawn(api_server::serve(listener, store.clone(), options, shutdown));
    assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let cluster = api_server::ensure_cluster(&store, Some("too late"))
        .await
        .expect("there");
    assert_eq!(cluster.join_token.len(), 64, "drawn when it began to serve");
    let _waiting = send(address, &format!("/v1/operations/{operation}?wait_seconds=60")).await;
    // The wait is under way when another request, sent later, has been answered.
    assert!(
        ask(address, &format!("/v1/operations/{operation}"))
            .await
            .contains("running")
    );
    let told = Instant::now();
    stop.send(()).expect("it runs");
    let ended = tokio::time::timeout(Duration::from_secs(20), server)
        .await
        .expect("in time");
    ended.expect("no panic").expect("no error");
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    assert!(
        TcpStream::connect(address).await.is_err(),
        "nobody listens any more"
    );
}

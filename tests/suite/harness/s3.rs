//! An S3 server in this process.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

pub const BUCKET: &str = "test";
pub const KEY: (&str, &str) = ("testkey", "testsecret");

/// An S3 server, and its folder, which has the bucket.
pub async fn s3() -> (SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
    let files = s3s_fs::FileSystem::new(dir.path()).unwrap();
    let mut service = s3s::service::S3ServiceBuilder::new(files);
    service.set_auth(s3s::auth::SimpleAuth::from_single(KEY.0, KEY.1));
    let service = service.build();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let executor = hyper_util::rt::TokioExecutor::new();
        let http = hyper_util::server::conn::auto::Builder::new(executor);
        loop {
            let Ok((socket, _)) = listener.accept().await else { continue };
            let io = hyper_util::rt::TokioIo::new(socket);
            let served = http.serve_connection(io, service.clone()).into_owned();
            tokio::spawn(served);
        }
    });
    (address, dir)
}

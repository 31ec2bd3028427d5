//! Ends: kill -9 in the middle of an operation, and SIGTERM, which lets requests end. What clients
//! see of faults, many at once, is tried by `tests/faults`.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Dicom, postgres,
    process::{Process, run},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_reindex_goes_on_after_kill_9_and_counts_each_instance_once() {
    let data = postgres::tempdir();
    // So slow that it is killed on its way.
    let process = Process::serve(data.path(), &[("operations.reindex_share", "0.01")]);
    let client = process.client.clone();
    for study in 0..10 {
        let files: Vec<Vec<u8>> = (0..100)
            .map(|n| {
                let uid = format!("1.2.{study}.1.{n}");
                let mut ct = Dicom::ct(&format!("1.2.{study}"), &format!("1.2.{study}.1"), &uid);
                ct.text(0x0010, 0x1010, "AS", "041Y").file()
            })
            .collect();
        client.store("/studies", &files).await.is(200);
    }
    let tags = br#"[{"path":"00101010","level":"instance"}]"#.to_vec();
    let answer = client.post("/extendedquerytags", "application/json", tags).await.is(202).json();
    let path = format!("/operations/{}", answer["id"].as_str().unwrap());
    until("a part is indexed", async || {
        client.get(&path).await.json()["processed"].as_u64() > Some(0)
    })
    .await;
    process.kill();

    let process = Process::serve(data.path(), &[("operations.reindex_share", "0.01")]);
    let client = process.client.clone();
    let left = client.get(&path).await.is(202).json();
    let processed = left["processed"].as_u64().unwrap();
    assert!((1..1000).contains(&processed), "{left}");
    // Meanwhile the search looks at what is stored instead.
    let found = client.search("/instances?PatientAge=041Y&limit=2000").await;
    assert_eq!(found.len(), 1000);
    until("the operation ends", async || client.get(&path).await.status == 200).await;
    let done = client.get(&path).await.is(200).json();
    assert_eq!((&done["status"], &done["processed"]), (&"succeeded".into(), &1000.into()));
    let found = client.search("/instances?PatientAge=041Y&limit=2000").await;
    assert_eq!(found.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_an_upload_end_and_nobody_else_uses_the_folder() {
    let data = postgres::tempdir();
    let process = Process::serve(data.path(), &[]);
    let client = process.client.clone();

    // A second server on the folder is refused, and the first one does not mind.
    let folder = data.path().to_str().unwrap();
    let second = run(&["serve", "--data-dir", folder, "--listen", "127.0.0.1:0"], &[]);
    assert_eq!(second.status.code(), Some(1));
    let reason = String::from_utf8(second.stderr).unwrap();
    assert!(reason.contains("in use by another running server"), "{reason}");
    client.get("/health/ready").await.is(200);

    let file = Dicom::ct("1.2.1", "1.2.1.1", "1.2.1.1.1").pixels(vec![7; 100_000]).file();
    let mut upload = TcpStream::connect(client.authority()).await.unwrap();
    let head = format!(
        "POST /studies HTTP/1.1\r\nHost: {}\r\nContent-Type: application/dicom\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        client.authority(),
        file.len()
    );
    upload.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    upload.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    upload.write_all(&file[..file.len() / 2]).await.unwrap();
    process.signal(libc::SIGTERM);
    until("nobody else is let in", async || TcpStream::connect(client.authority()).await.is_err())
        .await;
    upload.write_all(&file[file.len() / 2..]).await.unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(process.ended().await.code(), Some(0));

    let process = Process::serve(data.path(), &[]);
    assert_eq!(process.client.get("/studies/1.2.1").await.is(200).bodies(), [file]);
    process.signal(libc::SIGINT);
    assert_eq!(process.ended().await.code(), Some(0));
}

//! Kill -9 at any moment, and ends in good order: what was acknowledged is there.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use futures::future::join_all;
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{
    Client, Dicom,
    corpus::{RELATED, multipart},
    postgres,
    process::{Process, run, signal_to},
    until,
};

/// Small limits, so that large instances and several batches are part of the game.
const SETTINGS: [(&str, &str); 2] =
    [("store.own_blob_bytes", "64KiB"), ("store.batch_bytes", "64KiB")];

/// Everything that was ever sent, by SOP Instance UID, and whether it was acknowledged.
#[derive(Default)]
struct Sent {
    files: Mutex<BTreeMap<String, (Vec<u8>, bool)>>,
    next: AtomicU32,
    acknowledged: AtomicU32,
    stop: AtomicBool,
}

impl Sent {
    /// A few instances that nobody has, one of them large every now and then.
    fn request(&self) -> Vec<(String, Vec<u8>)> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        (0..4)
            .map(|m| {
                let uid = format!("1.2.{}.1.{n}.{m}", n % 5);
                let mut ct =
                    Dicom::ct(&format!("1.2.{}", n % 5), &format!("1.2.{}.1", n % 5), &uid);
                if m == 3 && n.is_multiple_of(3) {
                    ct.pixels((0..60_000).map(|p| p as u16 ^ n as u16).collect());
                } else {
                    ct.pixels((0..16).map(|p| p ^ n as u16).collect());
                }
                (uid, ct.file())
            })
            .collect()
    }

    /// Stores until the server does not answer any more, or it is enough.
    async fn store_on(&self, client: &Client) {
        while !self.stop.load(Ordering::Relaxed) {
            let request = self.request();
            let files: Vec<Vec<u8>> = request.iter().map(|(_, file)| file.clone()).collect();
            {
                let mut all = self.files.lock().unwrap();
                all.extend(request.iter().map(|(uid, f)| (uid.clone(), (f.clone(), false))));
            }
            let post = client.request(Method::POST, "/studies").header("content-type", RELATED);
            let Ok(answer) = post.body(multipart(&files)).send().await else { return };
            match answer.status().as_u16() {
                200 => {}
                // The database is gone: so will be the server, or it comes back.
                503 | 202 => return,
                status => panic!("{status}"),
            }
            let mut all = self.files.lock().unwrap();
            for (uid, _) in &request {
                all.get_mut(uid).unwrap().1 = true;
            }
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that was acknowledged is there, and all that is there is whole.
    async fn check(&self, client: &Client) {
        let found = client.search("/instances").await;
        let all = self.files.lock().unwrap().clone();
        let mut here = BTreeMap::new();
        for result in found {
            let uid = result["00080018"]["Value"][0].as_str().unwrap().to_owned();
            let url = result["00081190"]["Value"][0].as_str().unwrap().to_owned();
            let file = client.get_as(&url, "application/dicom").await.is(200).body;
            assert_eq!(file, all[&uid].0, "{uid} is not what was sent");
            here.insert(uid, ());
        }
        for (uid, (_, acknowledged)) in &all {
            assert!(!acknowledged || here.contains_key(uid), "{uid} was acknowledged and is lost");
        }
        for n in 0..5 {
            let study = client.get(&format!("/studies/1.2.{n}/metadata")).await;
            let count = here.keys().filter(|uid| uid.starts_with(&format!("1.2.{n}."))).count();
            match count {
                0 => assert_eq!(study.status, 404),
                _ => assert_eq!(study.is(200).json().as_array().unwrap().len(), count),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_kill_9() {
    let data = postgres::tempdir();
    let sent = Sent::default();
    for _ in 0..4 {
        let process = Process::serve(data.path(), &SETTINGS);
        let client = process.client.clone();
        sent.check(&client).await;
        let moment = sent.acknowledged.load(Ordering::Relaxed) + rand::random_range(1..30);
        let kill = async {
            until("some stores are acknowledged", async || {
                sent.acknowledged.load(Ordering::Relaxed) >= moment
            })
            .await;
            process.kill();
        };
        let stores = join_all((0..3).map(|_| sent.store_on(&client)));
        tokio::join!(kill, stores);
    }
    let process = Process::serve(data.path(), &SETTINGS);
    sent.check(&process.client).await;
    // What was not acknowledged can be sent again, whatever became of it.
    let all = sent.files.lock().unwrap().clone();
    let files: Vec<Vec<u8>> = all.into_values().map(|(file, _)| file).collect();
    for some in files.chunks(50) {
        process.client.store("/studies", some).await.is(200);
    }
    assert_eq!(process.client.search("/instances").await.len(), files.len());
}

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

/// The process id of the Postgres of a data folder.
fn postmaster(data: &Path) -> i32 {
    let text = std::fs::read_to_string(data.join("pg/data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_outlives_its_postgres() {
    let data = postgres::tempdir();
    let process = Process::serve(data.path(), &SETTINGS);
    let client = process.client.clone();
    let sent = Sent::default();
    let before = postmaster(data.path());
    let kill = async {
        until("some stores are acknowledged", async || {
            sent.acknowledged.load(Ordering::Relaxed) >= 5
        })
        .await;
        signal_to(before, libc::SIGKILL);
        until("Postgres is another one", async || {
            std::fs::read_to_string(data.path().join("pg/data/postmaster.pid"))
                .is_ok_and(|text| !text.starts_with(&format!("{before}\n")))
        })
        .await;
        sent.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(kill, join_all((0..3).map(|_| sent.store_on(&client))));
    until("the server is ready again", async || client.get("/health/ready").await.status == 200)
        .await;
    sent.check(&client).await;
    client.store("/studies", &[Dicom::ct("1.2.9", "1.2.9.1", "1.2.9.1.1").file()]).await.is(200);
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

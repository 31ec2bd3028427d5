//! Clients by the thousand that send a byte now and then, take nothing of their answers, or vanish
//! in the middle, while others work.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::future::join_all;
use rand::RngExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};

use crate::{
    check::World,
    crash::SETTINGS,
    harness::{Client, Dicom, postgres, process::Process, until},
    load::Owner,
    model::{Name, Sizes},
    objects::peak_memory,
    stage::{Stage, few_or_many, say},
    verify,
};

/// Of each kind.
const EACH: usize = 250;

/// Connections that the server may have open.
const CONNECTIONS: usize = 1400;

/// What the server may have in memory at most, in MiB.
const MEMORY: u64 = 800;

/// A study that is too large for the buffers of a connection.
const LARGE: &str = "/partitions/north/studies/1.2.900000000";
/// Its number.
const STUDY: u32 = 900_000_000;

const SIZES: Sizes = Sizes { large: 50_000, huge: 1_500_000 };

/// What one of them does.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// A request whose header comes byte by byte.
    DripsHeader,
    /// An upload that comes byte by byte.
    DripsBody,
    /// Asks for much and takes nothing.
    TakesNothing,
    /// Half an upload, or half an answer, and then a reset.
    Vanishes,
}

const MANNERS: [Manner; 4] =
    [Manner::DripsHeader, Manner::DripsBody, Manner::TakesNothing, Manner::Vanishes];

/// How often each began.
type Begun = Arc<[AtomicU64; MANNERS.len()]>;

/// Misbehaves until it is aborted.
async fn misbehave(client: Client, which: usize, file: Arc<Vec<u8>>, begun: Begun) {
    loop {
        begun[which].fetch_add(1, Relaxed);
        // It ends when the server lets go of it, and begins again.
        let _ = once(&client, MANNERS[which], &file).await;
        pause(300..1500).await;
    }
}

async fn once(client: &Client, manner: Manner, file: &[u8]) -> std::io::Result<()> {
    let host = client.authority();
    let socket = TcpSocket::new_v4()?;
    // So that little of an answer is under way.
    socket.set_recv_buffer_size(4096)?;
    let mut socket = socket.connect(host.parse().unwrap()).await?;
    let length = file.len();
    let upload = format!(
        "POST /partitions/north/studies HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/dicom\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let get = format!("GET {LARGE} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    match manner {
        Manner::DripsHeader => drip(&mut socket, upload.as_bytes()).await,
        Manner::DripsBody => {
            socket.write_all(upload.as_bytes()).await?;
            socket.write_all(&file[..file.len() / 2]).await?;
            drip(&mut socket, &file[file.len() / 2..]).await
        }
        Manner::TakesNothing => {
            socket.write_all(get.as_bytes()).await?;
            // Until the server hangs up.
            while socket.peek(&mut [0; 1]).await? > 0 {
                tokio::time::sleep(Duration::from_millis(200)).await;
                if rand::rng().random_ratio(1, 50) {
                    break;
                }
            }
            Ok(())
        }
        Manner::Vanishes => {
            if rand::rng().random() {
                socket.write_all(upload.as_bytes()).await?;
                socket.write_all(&file[..file.len() / 2]).await?;
            } else {
                socket.write_all(get.as_bytes()).await?;
                socket.read_exact(&mut [0; 2000]).await?;
            }
            socket.set_zero_linger()
        }
    }
}

/// A byte now and then.
async fn drip(socket: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    for byte in bytes {
        socket.write_all(&[*byte]).await?;
        pause(50..300).await;
    }
    Ok(())
}

/// Some milliseconds.
async fn pause(between: std::ops::Range<u64>) {
    let milliseconds = rand::rng().random_range(between);
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// What the server says of its connections.
async fn connections(client: &Client) -> f64 {
    let text = client.get("/metrics").await.is(200).text();
    let value = text.lines().find_map(|line| line.strip_prefix("collimator_http_connections "));
    value.unwrap().parse().unwrap()
}

fn files_open(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Lets this process, and the server that it starts, have some thousand connections.
fn raise_limits() {
    // SAFETY: plain calls on a structure of plain numbers.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(20_000).max(limit.rlim_cur);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_slow_and_vanishing_clients() {
    raise_limits();
    let data = postgres::tempdir();
    let mut settings = SETTINGS.to_vec();
    let most = CONNECTIONS.to_string();
    settings.extend([
        ("server.max_connections", most.as_str()),
        ("server.header_timeout", "2s"),
        ("server.write_timeout", "2s"),
        ("limits.body_idle", "5s"),
        ("store.buffer_bytes", "32MiB"),
        // Who works here is of the same partition as the crowd, and waits behind it.
        ("overload.queue", "2000"),
        ("overload.wait", "60s"),
    ]);
    let mut process = Process::start(data.path(), &settings, |_| {}).ready().await.unwrap();
    let (pid, client) = (process.id(), process.client.clone());
    let mut world = World::begin(Owner::all(2, SIZES), &client).await;
    // Of nobody who works: it stays as it is.
    let mut keeper = Owner::all(1, SIZES).remove(0);
    let huge = [63, 127, 191].map(|number| Name { study: STUDY, series: 1, number });
    keeper.keep(&world.stage, STUDY, huge.to_vec()).await;
    assert!(client.get(LARGE).await.is(200).body.len() > 9_000_000);
    world.owners.push(keeper);
    let idle = files_open(pid);
    let file = Arc::new(Dicom::ct("1.4.1", "1.4.1.1", "1.4.1.1.1").pixels(vec![7; 4000]).file());
    let begun = Begun::default();

    let crowd = async |stage: &Stage| {
        let mut crowd = JoinSet::new();
        for n in 0..EACH * MANNERS.len() {
            let (client, file, begun) = (client.clone(), file.clone(), begun.clone());
            crowd.spawn(misbehave(client, n % MANNERS.len(), file, begun));
        }
        // All are there; some have been let go by the server and have come back; others are served.
        until("the crowd has been let go and come back", async || {
            let enough = few_or_many(1, 2) * EACH as u64;
            [0, 2, 3].iter().all(|which| begun[*which].load(Relaxed) > enough)
        })
        .await;
        until("many are there at once", async || {
            let open = connections(&client).await;
            assert!(open <= CONNECTIONS as f64, "{open} connections");
            open > EACH as f64
        })
        .await;
        let enough = stage.acknowledged() + few_or_many(15, 50);
        until("others are served", async || stage.acknowledged() >= enough).await;
        crowd.shutdown().await;
    };
    world.work(&[&client], crowd).await;
    assert!(process.lives());

    // More than may be: others are told to come again, or wait, until those that say nothing are
    // let go.
    let silent = (0..CONNECTIONS + 100).map(|_| TcpStream::connect(client.authority()));
    let silent: Vec<_> = join_all(silent).await.into_iter().map(Result::unwrap).collect();
    let asked = Instant::now();
    // On a connection of its own, behind all of them; those that were left idle end just now.
    let late = Client::new(client.base.clone());
    until("one is served behind them", async || {
        let answer = late.get("/partitions/north/studies?limit=1").await;
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        answer.status == 200
    })
    .await;
    let waited = asked.elapsed();
    drop(silent);

    until("all is released", async || {
        connections(&late).await < 40.0 && files_open(pid) < idle + 60
    })
    .await;
    world.check_all(&late).await;
    world.did_something();
    let memory = peak_memory(pid);
    assert!(memory < MEMORY, "{memory} MiB");
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
    verify::is_clean(data.path(), &settings).await;
    world.stage.tell("slow and vanishing clients");
    let counts: Vec<String> = MANNERS
        .iter()
        .zip(&*begun)
        .map(|(manner, count)| format!("{manner:?} {}", count.load(Relaxed)))
        .collect();
    say(&format!(
        "{}; most memory: {memory} MiB; behind {CONNECTIONS} silent connections one waited {waited:?}",
        counts.join(", ")
    ));
}

/// Uploads that stand still, of which each would hold some MiB for as long as it likes.
const STILL: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stand_still_hold_what_they_may() {
    raise_limits();
    let data = postgres::tempdir();
    let settings = [("features.enable_data_partition", "true"), ("store.upload_bytes", "32MiB")];
    let process = Process::start(data.path(), &settings, |_| {}).ready().await.unwrap();
    let (pid, client) = (process.id(), process.client.clone());
    let small = [Dicom::ct("1.4.2", "1.4.2.1", "1.4.2.1.1").file()];
    client.store("/partitions/south/studies", &small).await.is(200);
    let before = peak_memory(pid);
    let length = 4 << 20;
    let mut file = Dicom::ct("1.4.1", "1.4.1.1", "1.4.1.1.1").pixels(vec![7; length / 2]).file();
    file.truncate(length - 1_000_000);
    let head = format!(
        "POST /partitions/north/studies HTTP/1.1\r\nHost: a\r\nContent-Type: application/dicom\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let begin = (0..STILL).map(|_| async {
        let mut socket = TcpStream::connect(client.authority()).await.unwrap();
        let sent = [head.as_bytes(), &file].concat();
        // Who is turned away may be hung up on.
        let _ = tokio::time::timeout(Duration::from_secs(20), socket.write_all(&sent)).await;
        socket
    });
    let still = join_all(begin).await;
    let north = client.store("/partitions/north/studies", &small).await;
    assert_eq!(north.is(429).header("retry-after"), "5");
    for path in ["/health/ready", "/partitions/south/studies/1.4.2/metadata"] {
        client.get(path).await.is(200);
    }
    client.store("/partitions/south/studies", &small).await.is(200);
    let memory = peak_memory(pid) - before;
    // Besides what may be held, each connection has a buffer for what came and was not read.
    assert!(memory < 350, "{memory} MiB, where {} were sent", (STILL * file.len()) >> 20);
    say(&format!("{STILL} uploads that stand still: {memory} MiB more"));
    drop(still);
    until("what was held is given back", async || {
        client.store("/partitions/north/studies", &small).await.status == 200
    })
    .await;
    process.signal(libc::SIGTERM);
    assert_eq!(process.ended().await.code(), Some(0));
}

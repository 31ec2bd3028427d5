//! A receiver of webhooks on loopback, which does as it is told and remembers what it got.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};

/// What it answers.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    /// With a header.
    With(u16, &'static str, String),
    /// Nothing, until [`Receiver::open`] lets one answer go; then 200.
    Wait,
    /// Nothing, ever.
    Hang,
    /// 200, with a body that does not end.
    Endless,
}

/// A message that came in.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub id: String,
    pub timestamp: String,
    pub signature: String,
    pub content_type: String,
    pub body: Vec<u8>,
}

struct Inner {
    got: Mutex<Vec<Got>>,
    script: Mutex<VecDeque<Reply>>,
    usual: Mutex<Reply>,
    gate: Semaphore,
}

/// A receiver. Answers 200, unless told otherwise.
pub struct Receiver {
    pub port: u16,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub async fn start() -> Self {
        let inner = Arc::new(Inner {
            got: Mutex::default(),
            script: Mutex::default(),
            usual: Mutex::new(Reply::Status(200)),
            gate: Semaphore::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(take).with_state(inner.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, inner, task }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// What it answers next, one after the other.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.inner.script).extend(replies);
    }

    /// What it answers when there is no script.
    pub fn usually(&self, reply: Reply) {
        *lock(&self.inner.usual) = reply;
    }

    /// Lets one answer go that waits, or will.
    pub fn open(&self) {
        self.inner.gate.add_permits(1);
    }

    pub fn got(&self) -> Vec<Got> {
        lock(&self.inner.got).clone()
    }

    /// The sequences of all events that came in, in order.
    pub fn sequences(&self) -> Vec<i64> {
        self.got().iter().flat_map(Got::sequences).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(State(inner): State<Arc<Inner>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap().to_vec();
    let header =
        |name: &str| parts.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let got = Got {
        path: parts.uri.path().to_owned(),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        content_type: header("content-type"),
        body,
    };
    let reply = {
        lock(&inner.got).push(got);
        let next = lock(&inner.script).pop_front();
        next.unwrap_or_else(|| lock(&inner.usual).clone())
    };
    let mut response = Response::new(Body::from("thank you"));
    match reply {
        Reply::Status(status) => *response.status_mut() = StatusCode::from_u16(status).unwrap(),
        Reply::With(status, name, value) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        Reply::Wait => inner.gate.acquire().await.unwrap().forget(),
        Reply::Hang => std::future::pending().await,
        Reply::Endless => {
            let drop = Ok::<_, std::convert::Infallible>(vec![b'x'; 1 << 16]);
            *response.body_mut() = Body::from_stream(futures::stream::repeat(drop));
        }
    }
    response
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn events(&self) -> Vec<Value> {
        self.json()["data"]["events"].as_array().cloned().unwrap_or_default()
    }

    pub fn sequences(&self) -> Vec<i64> {
        self.events().iter().map(|event| event["sequence"].as_i64().unwrap()).collect()
    }

    /// Whether it is signed with each of the secrets, in this order, and with no other.
    pub fn is_signed_with(&self, secrets: &[&[u8]]) -> bool {
        let signed: Vec<u8> =
            [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", &self.body].concat();
        let one = |secret: &&[u8]| format!("v1,{}", STANDARD.encode(hmac_sha256(secret, &signed)));
        self.signature == secrets.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

/// The secret that a text `whsec_…` stands for.
pub fn secret(shown: &str) -> Vec<u8> {
    STANDARD.decode(shown.strip_prefix("whsec_").expect("a secret")).unwrap()
}

/// RFC 2104, as it is written there.
fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

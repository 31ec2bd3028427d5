//! Connections to object stores belong to the runtime that opened the store.
//!
//! Requests come from the threads of Stores as well, which step back for others
//! (`control::Aside`). A connection is kept and used again by whoever comes next: were it driven
//! by the threads that happened to open it, retrievals would wait for them.

use futures::future::BoxFuture;
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService,
        ReqwestConnector,
    },
};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;

/// Makes clients whose connections belong to the current runtime.
#[derive(Debug)]
pub(super) struct Home;

#[derive(Debug)]
struct Client {
    client: HttpClient,
    home: Handle,
}

impl HttpConnector for Home {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(match Handle::try_current() {
            Ok(home) => HttpClient::new(Client { client, home }),
            // Opened by who only looks whether it can be.
            Err(_) => client,
        })
    }
}

impl HttpService for Client {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
    {
        Box::pin(TokioContext::new(self.client.execute(request), self.home.clone()))
    }
}

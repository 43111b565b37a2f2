//! The API for parts of the same process: the same pipeline, without a socket.
use crate::body::{self, Body, BoxError};
use crate::server::{Caller, ConnInfo, Server};
use api::User;
use bytes::Bytes;
use client::{BoxFuture, Transport};
use http::{Request, Response};

/// The server, as one user.
#[derive(Clone)]
pub struct InProcess {
    server: Server,
    user: User,
}

impl Server {
    /// A way to this server for a part of the process that acts as `user`.
    pub fn as_user(&self, user: User) -> InProcess {
        InProcess { server: self.clone(), user }
    }
}

impl Transport for InProcess {
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>> {
        Box::pin(async move {
            let mut request = request.map(body::full);
            request.extensions_mut().insert(Caller::InProcess(self.user.clone()));
            Ok(self.server.handle(request, ConnInfo::default()).await)
        })
    }
}

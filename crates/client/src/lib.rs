//! The one API client: typed and dynamic calls over any [`Transport`].
//!
//! In process the transport is the API server itself; from elsewhere it is [`https::Https`]. The
//! client adds no cache and no retry: those belong to whoever knows what a repeated call means.
mod error;
pub mod https;
pub mod kubeconfig;
#[cfg(feature = "memory")]
pub mod memory;
mod params;
mod path;
mod watch;

pub use error::{ApiStatus, Error};
pub use https::{Https, HttpsConfig, Identity, tls_config};
pub use kubeconfig::Kubeconfig;
pub use params::{DeleteParams, ListParams, Patch, Propagation, WatchParams, WriteParams};
pub use path::Resource;
pub use watch::{WatchEvent, WatchStream};

use api::{Key, Kind, Revision};
use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
/// The body of a response; the bodies of requests are whole.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

/// Whatever answers HTTP requests: the server in this process, or one far away.
pub trait Transport: Send + Sync {
    /// The request's URI holds path and query only.
    fn call(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Body>, BoxError>>;
}

/// A response that is not streamed may not be larger than this.
const BODY_MAX_BYTES: usize = 512 << 20;

/// A handle on the API; cheap to clone.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    user_agent: Arc<str>,
}

/// One page (or all) of a collection.
#[derive(Debug, Clone)]
pub struct List<K> {
    pub items: Vec<K>,
    pub resource_version: String,
    /// For [`ListParams::continue_token`]; empty at the end.
    pub continue_token: String,
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport, user_agent: Arc::from("kybern") }
    }
    /// A client of a server elsewhere.
    pub fn https(config: HttpsConfig) -> Result<Self, Error> {
        Ok(Self::new(Arc::new(Https::new(config)?)))
    }
    /// The same connection under another `User-Agent`, which is also the default field manager.
    #[must_use]
    pub fn named(&self, user_agent: &str) -> Self {
        Self { transport: self.transport.clone(), user_agent: Arc::from(user_agent) }
    }

    pub async fn get<K: Kind>(&self, key: &Key) -> Result<K, Error> {
        self.json(Method::GET, &Resource::of::<K>().object(key), None).await
    }
    pub async fn list<K: Kind>(
        &self,
        namespace: Option<&str>,
        params: &ListParams,
    ) -> Result<List<K>, Error> {
        self.list_as(&Resource::of::<K>(), namespace, params).await
    }
    /// The namespace is the object's own.
    pub async fn create<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = Resource::of::<K>().collection(object.metadata().namespace.as_deref());
        self.json(Method::POST, &path, Some(encode(object)?)).await
    }
    /// `object` must hold the resource version that it replaces, unless any may be replaced.
    pub async fn replace<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = Resource::of::<K>().object(&object.key());
        self.json(Method::PUT, &path, Some(encode(object)?)).await
    }
    pub async fn replace_status<K: Kind>(&self, object: &K) -> Result<K, Error> {
        let path = format!("{}/status", Resource::of::<K>().object(&object.key()));
        self.json(Method::PUT, &path, Some(encode(object)?)).await
    }
    pub async fn patch<K: Kind>(
        &self,
        key: &Key,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<K, Error> {
        self.patch_as(&Resource::of::<K>(), key, patch, subresource).await
    }
    /// What the server answers: the object as it is now or was last, or a `Status`.
    pub async fn delete<K: Kind>(&self, key: &Key, params: &DeleteParams) -> Result<Value, Error> {
        self.delete_value(&Resource::of::<K>(), key, params).await
    }
    pub async fn watch<K: Kind>(
        &self,
        namespace: Option<&str>,
        params: &WatchParams,
    ) -> Result<WatchStream<K>, Error> {
        self.watch_as(&Resource::of::<K>(), namespace, params).await
    }

    pub async fn get_value(&self, resource: &Resource, key: &Key) -> Result<Value, Error> {
        self.json(Method::GET, &resource.object(key), None).await
    }
    pub async fn create_value(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<Value, Error> {
        self.json(Method::POST, &resource.collection(namespace), Some(encode(object)?)).await
    }
    /// As [`Self::create_value`], for who has no use for the answer.
    pub async fn send_value(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        object: &Value,
    ) -> Result<(), Error> {
        let path = resource.collection(namespace);
        let body = Some(encode(object)?);
        let request = self.json_request(Method::POST, &path, body, "application/json")?;
        self.send(request).await.map(drop)
    }
    /// Creates a subresource, such as a pod's `binding` or `eviction`.
    pub async fn create_sub(
        &self,
        resource: &Resource,
        key: &Key,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<Value, Error> {
        let path = format!("{}/{subresource}", resource.object(key));
        self.json(Method::POST, &path, Some(encode(object)?)).await
    }
    pub async fn replace_value(
        &self,
        resource: &Resource,
        key: &Key,
        subresource: Option<&str>,
        object: &Value,
    ) -> Result<Value, Error> {
        let path = path::with_sub(resource.object(key), subresource);
        self.json(Method::PUT, &path, Some(encode(object)?)).await
    }
    pub async fn patch_value(
        &self,
        resource: &Resource,
        key: &Key,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<Value, Error> {
        self.patch_as(resource, key, patch, subresource).await
    }
    pub async fn delete_value(
        &self,
        resource: &Resource,
        key: &Key,
        params: &DeleteParams,
    ) -> Result<Value, Error> {
        self.json(Method::DELETE, &resource.object(key), Some(encode(params)?)).await
    }
    /// Deletes what `list` selects.
    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        list: &ListParams,
        params: &DeleteParams,
    ) -> Result<Value, Error> {
        let path = format!("{}{}", resource.collection(namespace), list.query());
        self.json(Method::DELETE, &path, Some(encode(params)?)).await
    }

    /// As [`Self::list`], for any resource and any shape of items.
    pub async fn list_as<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        params: &ListParams,
    ) -> Result<List<T>, Error> {
        let path = format!("{}{}", resource.collection(namespace), params.query());
        let accept = params.accept();
        let wire: ListWire<T> = self.json_as(Method::GET, &path, None, accept).await?;
        Ok(List {
            items: wire.items.unwrap_or_default(),
            resource_version: wire.metadata.resource_version,
            continue_token: wire.metadata.continue_token,
        })
    }
    pub async fn patch_as<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        key: &Key,
        patch: &Patch,
        subresource: Option<&str>,
    ) -> Result<T, Error> {
        let path = path::with_sub(resource.object(key), subresource) + &patch.query();
        let request = self
            .request(Method::PATCH, &path)
            .header(header::CONTENT_TYPE, patch.content_type())
            .body(encode(patch.body())?)
            .map_err(|error| Error::Request(error.to_string()))?;
        decode(&self.whole(request).await?)
    }
    /// As [`Self::watch`], for any resource and any shape of object.
    pub async fn watch_as<T: DeserializeOwned>(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        params: &WatchParams,
    ) -> Result<WatchStream<T>, Error> {
        Ok(WatchStream::new(self.watch_body(resource, namespace, params).await?))
    }
    /// As [`Self::watch_as`], for whoever decodes the objects.
    pub async fn watch_raw(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        params: &WatchParams,
    ) -> Result<WatchStream<Bytes>, Error> {
        Ok(WatchStream::raw(self.watch_body(resource, namespace, params).await?))
    }
    async fn watch_body(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        params: &WatchParams,
    ) -> Result<Body, Error> {
        let path = format!("{}{}", resource.collection(namespace), params.query());
        let request = self
            .request(Method::GET, &path)
            .header(header::ACCEPT, params.accept())
            .body(Bytes::new())
            .map_err(|error| Error::Request(error.to_string()))?;
        Ok(self.send(request).await?.into_body())
    }

    /// Any request: the answer is decoded if it is a success.
    pub async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, Error> {
        self.json_as(method, path, body, "application/json").await
    }
    /// Any request, as it is. Errors only if there is no answer: look at the status.
    pub async fn raw(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        if !request.headers().contains_key(header::USER_AGENT)
            && let Ok(value) = header::HeaderValue::from_str(&self.user_agent)
        {
            request.headers_mut().insert(header::USER_AGENT, value);
        }
        self.transport.call(request).await.map_err(Error::Transport)
    }

    async fn json_as<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        accept: &'static str,
    ) -> Result<T, Error> {
        let request = self.json_request(method, path, body, accept)?;
        decode(&self.whole(request).await?)
    }
    fn json_request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        accept: &'static str,
    ) -> Result<Request<Bytes>, Error> {
        let mut request = self.request(method, path).header(header::ACCEPT, accept);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request.body(body.unwrap_or_default()).map_err(|error| Error::Request(error.to_string()))
    }
    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(path).header(header::USER_AGENT, &*self.user_agent)
    }
    async fn whole(&self, request: Request<Bytes>) -> Result<Bytes, Error> {
        read_whole(self.send(request).await?.into_body()).await
    }
    /// A response that is a success, or what it says went wrong. Boxed and without a borrow, so
    /// that futures over it are `Send` wherever they are used.
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Body>, Error>> {
        let transport = self.transport.clone();
        Box::pin(async move {
            let response = transport.call(request).await.map_err(Error::Transport)?;
            let code = response.status();
            if code.is_success() {
                return Ok(response);
            }
            let body = read_whole(response.into_body()).await?;
            Err(Error::Api(Box::new(ApiStatus::from_body(code.as_u16(), &body))))
        })
    }
}

/// The resource version in any object or in a list's metadata; zero if there is none.
pub fn revision_of(object: &Value) -> Revision {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    Revision(text.and_then(|text| text.parse().ok()).unwrap_or_default())
}

async fn read_whole(mut body: Body) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::Transport)?.into_data() else { continue };
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        if whole.len() + data.len() > BODY_MAX_BYTES {
            let why = format!("an answer is over {BODY_MAX_BYTES} bytes");
            return Err(Error::Transport(why.into()));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

fn encode<T: Serialize>(object: &T) -> Result<Bytes, Error> {
    serde_json::to_vec(object).map(Bytes::from).map_err(|error| Error::Request(error.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(Error::Decode)
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct ListWire<T> {
    #[serde(default)]
    metadata: ListMetaWire,
    items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
struct ListMetaWire {
    #[serde(rename = "resourceVersion", default)]
    resource_version: String,
    #[serde(rename = "continue", default)]
    continue_token: String,
}

#[cfg(test)]
mod tests;

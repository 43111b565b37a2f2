//! The server: the one pipeline that every request goes through.
//!
//! `request-info -> authn -> impersonate -> flow control -> authz -> the verb`. In-process callers
//! come the same way, with their identity beside the request ([`Caller`]).
use crate::body::Body;
use crate::cache::feed::{Caches, Observer};
use crate::config::Config;
use crate::kinds::Kinds;
use crate::metrics::Metrics;
use crate::proxy::authorities::Authorities;
use crate::request_info::{Query, RequestInfo};
use crate::table::{Row, Table};
use crate::{aggregate, allocate, bootstrap, expiry, quota, reply, verbs, wellknown};
use api::{ApiError, User};
use authz::Authorizer;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, header};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};

/// Requests at once that are neither watches nor streams; more are told to come again.
const MAX_READS: usize = 800;
const MAX_WRITES: usize = 800;
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Pages must be asked for within this many bookmarks' time.
const SNAPSHOT_TICKS: usize = 5;

/// Where a request comes from.
#[derive(Debug, Clone, Default)]
pub struct ConnInfo {
    pub peer: Option<SocketAddr>,
    /// The user of the TLS client certificate.
    pub user: Option<User>,
}

/// In a request's extensions: who asks, for callers within this process.
#[derive(Debug, Clone)]
pub enum Caller {
    InProcess(User),
}

pub struct Inner {
    pub config: Config,
    pub caches: Arc<Caches>,
    pub authorizer: Arc<Authorizer>,
    pub metrics: Metrics,
    pub(crate) addresses: Arc<allocate::Allocator>,
    pub(crate) turns: quota::Turns,
    pub(crate) authorities: Authorities,
    pub(crate) follower: Arc<aggregate::Follower>,
    kinds: Arc<Kinds>,
    reads: Semaphore,
    writes: Semaphore,
    stopping: watch::Sender<bool>,
    ready: watch::Sender<bool>,
}

/// A handle on the server; cheap to clone.
#[derive(Clone)]
pub struct Server(pub(crate) Arc<Inner>);

impl std::ops::Deref for Server {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// All that a verb needs to know of its request.
pub(crate) struct Context {
    pub server: Server,
    pub user: User,
    pub peer: Option<SocketAddr>,
    pub info: RequestInfo,
    pub query: Query,
    pub row: Row,
    pub user_agent: String,
    pub accept: String,
    pub content_type: String,
    pub warnings: Vec<String>,
    /// Webhooks have been asked already.
    pub reviewed: bool,
}

/// Feeds authorization.
struct Policy(Arc<Authorizer>);

impl Observer for Policy {
    fn changed(&self, group: &str, plural: &str, key: &str, new: Option<&api::Value>) {
        if authz::WATCHED.contains(&(group, plural)) {
            let (namespace, name) = key.split_once('/').unwrap_or(("", key));
            self.0.changed(plural, namespace, name, new);
        }
    }
}

impl Server {
    /// Reads everything from the store, makes what every cluster has, and starts to follow.
    pub async fn new(config: Config, table: Table) -> Result<Self, ApiError> {
        let authorizer = Arc::new(Authorizer::default());
        let addresses = Arc::new(allocate::Allocator::new(&config));
        let expiry = Arc::new(expiry::Expiry::default());
        let follower = Arc::new(aggregate::Follower::default());
        let observers: Vec<Arc<dyn Observer>> = vec![
            Arc::clone(&follower) as Arc<dyn Observer>,
            Arc::new(Policy(Arc::clone(&authorizer))),
            Arc::clone(&addresses) as Arc<dyn Observer>,
            Arc::clone(&expiry) as Arc<dyn Observer>,
        ];
        let kinds = Arc::new(Kinds::new(table));
        let caches =
            Arc::new(Caches::new(Arc::clone(&config.store), Arc::clone(&kinds), observers));
        let at = caches.load().await.map_err(crate::cache::feed::store_error)?;
        let server = Self(Arc::new(Inner {
            config,
            caches: Arc::clone(&caches),
            authorizer,
            metrics: Metrics::default(),
            addresses,
            turns: quota::Turns::default(),
            authorities: Authorities::default(),
            follower,
            kinds,
            reads: Semaphore::new(MAX_READS),
            writes: Semaphore::new(MAX_WRITES),
            stopping: watch::Sender::new(false),
            ready: watch::Sender::new(false),
        }));
        server.spawn(async move { caches.follow(at).await });
        server.spawn(server.clone().bookmarks());
        bootstrap::run(&server).await?;
        server.spawn(expiry::run(server.clone(), expiry));
        server.spawn(aggregate::run(server.clone()));
        server.ready.send_replace(true);
        Ok(server)
    }

    /// Runs until the server stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = stopped => {}
            }
        });
    }

    async fn bookmarks(self) {
        let mut ticks = std::collections::VecDeque::new();
        let mut interval = tokio::time::interval(BOOKMARK_EVERY);
        loop {
            interval.tick().await;
            let progress = self.caches.progress();
            ticks.push_back(progress);
            let oldest = if ticks.len() > SNAPSHOT_TICKS { ticks.pop_front() } else { None };
            for cache in self.caches.all() {
                cache.bookmark(progress);
                if let Some(oldest) = oldest {
                    cache.drop_snapshots_before(oldest);
                }
            }
        }
    }

    pub fn table(&self) -> Arc<Table> {
        self.kinds.table()
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow() && !self.is_stopping()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Ends watches and background work; connections are let finish by whoever serves them.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
        for cache in self.caches.all() {
            cache.close();
        }
    }

    /// Returns when the server stops.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.stopping.subscribe();
        async move {
            // An error means that the server is gone altogether.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }

    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Answers one request. Never panics, never fails.
    pub fn handle(
        &self,
        request: Request<Body>,
        conn: ConnInfo,
    ) -> BoxFuture<'static, Response<Body>> {
        let server = self.clone();
        Box::pin(async move {
            let started = std::time::Instant::now();
            let method = request.method().clone();
            let answer = AssertUnwindSafe(server.answer(request, conn)).catch_unwind().await;
            let (info, response) = answer.unwrap_or_else(|panic| {
                let what = panic_text(panic.as_ref());
                tracing::error!(what, "a request's handler panicked");
                let error = ApiError::internal("the request's handler panicked");
                (RequestInfo::default(), reply::error(&error))
            });
            server.metrics.request(&method, &info, response.status(), started.elapsed());
            response
        })
    }

    async fn answer(
        &self,
        request: Request<Body>,
        conn: ConnInfo,
    ) -> (RequestInfo, Response<Body>) {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let result = self.authenticated(request, conn, info.clone(), query).await;
        (info, result.unwrap_or_else(|error| reply::error(&error)))
    }

    async fn authenticated(
        &self,
        mut request: Request<Body>,
        conn: ConnInfo,
        info: RequestInfo,
        query: Query,
    ) -> Result<Response<Body>, ApiError> {
        let user = crate::identity::identify(self, &mut request, &conn)?;
        if user.name == User::ANONYMOUS && !wellknown::is_open(&info.path) {
            return Err(ApiError::unauthorized());
        }
        let wanted = info.attributes(&query);
        let decision = self.authorizer.authorize(&user, &wanted);
        if !decision.allowed() && user.name != User::ANONYMOUS {
            let why = authz::refusal(&user, &wanted, decision.reason());
            return Err(ApiError::forbidden(&info.group, &wanted.resource, &info.name, why));
        }
        if let Some(service) = aggregate::claimed(self, &info.path) {
            return aggregate::forward(self, &user, request, &service).await;
        }
        if !info.is_resource {
            return wellknown::answer(self, &user, request, &info, &query).await;
        }
        let mut context = self.context(&request, user, info, query)?;
        context.peer = conn.peer;
        let _permit = self.permit(&context)?;
        verbs::run(context, request).await
    }

    fn context(
        &self,
        request: &Request<Body>,
        user: User,
        info: RequestInfo,
        query: Query,
    ) -> Result<Context, ApiError> {
        let table = self.table();
        let row = table.find(&info.group, &info.version, &info.resource).cloned();
        let row = row.ok_or_else(|| {
            let refusal = self.kinds.refusal(&info.group, &info.version, &info.resource);
            refusal.unwrap_or_else(ApiError::no_such_path)
        })?;
        if !info.namespace.is_empty() && !row.info().namespaced() && info.resource != "namespaces" {
            return Err(ApiError::no_such_path());
        }
        let header = |name: header::HeaderName| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let mut info = info;
        if info.resource == "namespaces" {
            info.namespace.clear();
        }
        Ok(Context {
            server: self.clone(),
            user,
            peer: None,
            query,
            warnings: row.deprecation().map(str::to_owned).into_iter().collect(),
            row,
            user_agent: header(header::USER_AGENT),
            accept: header(header::ACCEPT),
            content_type: header(header::CONTENT_TYPE),
            reviewed: false,
            info,
        })
    }

    /// Long-running requests are not counted: they are bounded by their connections.
    fn permit(
        &self,
        context: &Context,
    ) -> Result<Option<tokio::sync::SemaphorePermit<'_>>, ApiError> {
        let streaming = matches!(
            context.info.subresource.as_str(),
            "exec" | "attach" | "portforward" | "proxy" | "log"
        );
        let pool = match context.info.verb {
            "watch" => return Ok(None),
            _ if streaming => return Ok(None),
            "get" | "list" => &self.reads,
            _ => &self.writes,
        };
        let busy = "too many requests, please try again later";
        pool.try_acquire().map(Some).map_err(|_| ApiError::too_many_requests(busy, 1))
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown")
}

impl Context {
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.query.all("dryRun") {
            [] => Ok(false),
            all if all.iter().all(|value| value == "All") => Ok(true),
            all => {
                let bad = all.iter().find(|value| *value != "All");
                let errors = [api::FieldError::not_supported(
                    "dryRun",
                    bad.cloned().unwrap_or_default(),
                    &["All"],
                )];
                Err(ApiError::invalid("meta.k8s.io", "CreateOptions", "", &errors))
            }
        }
    }
    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(self.row.group(), self.row.plural(), &self.info.name)
    }
    pub(crate) fn reply(&self, status: StatusCode) -> http::response::Builder {
        reply::with_warnings(Response::builder().status(status), &self.warnings)
    }
}

//! `kybern server`: the store, the API server, the controllers and the scheduler in one process.
use crate::cluster::{self, Cluster};
use crate::join::JoinToken;
use crate::paths::DataDir;
use crate::process::Report;
use crate::{Folder, agent, compaction, datastore, kubeconfig, logging, reach, supervise};
use anyhow::{Context, Result};
use api::k8s::api::core::v1::{ConfigMap, Secret};
use api::k8s::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use api::{Key, User};
use client::{Client, HttpsConfig, Identity, Resource, Transport};
use pki::{Pki, Profile};
use rand::Rng;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kybern server --data-dir /var/lib/kybern      what `kybern up` runs; the cluster must be there")]
pub(crate) struct Server {
    #[command(flatten)]
    folder: Folder,
    /// Started by `kybern up`: detach, report over standard output, be started again on a crash
    #[arg(long, hide = true, value_name = "PID_FILE")]
    supervised: Option<std::path::PathBuf>,
}

impl Server {
    pub(crate) fn run(self) -> Result<()> {
        crate::require_root("server")?;
        if let Some(pid_file) = &self.supervised {
            supervise::enter(pid_file)?;
        }
        logging::start();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().min(8)))
            .enable_all()
            .build()
            .context("cannot start the async runtime")?;
        let report = Report;
        let outcome = runtime.block_on(serve(&self.folder, &report, self.supervised.is_some()));
        if let Err(error) = &outcome {
            report.error(&crate::one_line(error));
        }
        outcome
    }
}

async fn serve(folder: &Folder, report: &Report, background: bool) -> Result<()> {
    let dir = folder.open()?;
    let cluster = cluster::existing(&dir)?;
    let pki = Arc::new(Pki::load_or_create(&dir.pki()).context("cannot load the keys")?);
    let subnet = cluster.node_cidr.parse().context("the node network in cluster.json")?;
    let pods = cluster.pod_cidr.parse().context("the pods' network in cluster.json")?;
    net::hostlab::ensure_host(&cluster.id, subnet, pods).context("cannot make the node network")?;
    tokio::spawn(net::hostlab::keep_host(cluster.id.clone(), subnet, pods));
    let listeners = listen(&cluster).await?;
    let store = datastore::open(&dir, &cluster).await?;
    // For as long as the server lives.
    tokio::spawn(compaction::run(Arc::clone(&store), compaction::INTERVAL));

    let advertise = (IpAddr::V4(cluster.advertise_ip()?), cluster.port());
    let mut config = apiserver::Config::new(store, pki.clone(), advertise);
    config.service_cidr = apiserver::Cidr::parse(&cluster.service_cidr)
        .with_context(|| format!("{} is no address range", cluster.service_cidr))?;
    let tls = serving(&cluster, &pki, config.service_cidr.nth(1))?;
    certificate_of_admin(&pki)?;
    let server = apiserver::Server::new(config, apiserver::Table::built_in())
        .await
        .context("cannot start the API server")?;
    let tasks: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(apiserver::serve(server.clone(), listener, tls.clone())))
        .collect();

    let master = |name: &str| -> Client {
        let transport = server.as_user(User::master(name));
        Client::new(Arc::new(transport) as Arc<dyn Transport>)
    };
    publish(&master("kybern"), &cluster).await?;
    let caches = informer::Caches::new(master("system:kube-controller-manager"));
    let settings = controllers::Settings {
        ca_pem: pki.ca.cert_pem().to_owned(),
        pod_cidrs: vec![cluster.pod_cidr.clone()],
        node_prefix: 24,
    };
    let signer = Arc::new(informer::ClusterSigner::new(pki.clone()));
    let manager = informer::Manager::new(&caches, &controllers::all(&settings), Some(signer));
    let scheduler = scheduler::Scheduler::new(&caches);
    reach::keep(&caches, &cluster, subnet);
    if cluster.nodes.len() > 1 {
        reach::serve(&caches, &cluster, subnet).context("cannot serve ports of the nodes")?;
    }
    caches.start();
    let _running = manager.start();
    let collecting = master("system:generic-garbage-collector");
    let _collector = garbage::start(&collecting, &caches);
    let scheduling = tokio::spawn(scheduler.run());
    tracing::info!(address = %cluster.listen, "the control plane is up");
    if background {
        Report.ready();
    } else {
        report.progress("the control plane is up");
    }
    ended().await?;
    tracing::info!("stopping");
    scheduling.abort();
    server.stop();
    for task in tasks {
        let _ = tokio::time::timeout(Duration::from_secs(5), task).await;
    }
    Ok(())
}

async fn ended() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// The address that was asked for, and the one that nodes and pods use.
async fn listen(cluster: &Cluster) -> Result<Vec<TcpListener>> {
    let asked: SocketAddr =
        cluster.listen.parse().with_context(|| format!("{} is no address", cluster.listen))?;
    let mut addresses = vec![asked];
    let inner = SocketAddr::from((cluster.advertise_ip()?, asked.port()));
    if !asked.ip().is_unspecified() && asked != inner {
        addresses.push(inner);
    }
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.with_context(|| format!("cannot listen on {address}"))?);
    }
    Ok(listeners)
}

fn serving(cluster: &Cluster, pki: &Pki, service_ip: IpAddr) -> Result<rustls::ServerConfig> {
    let host = agent::host_name()?;
    let mut names = vec![
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
        &host,
    ];
    let listen: SocketAddr = cluster.listen.parse().context("the listen address")?;
    let mut addresses =
        vec![IpAddr::V4(Ipv4Addr::LOCALHOST), service_ip, IpAddr::V4(cluster.advertise_ip()?)];
    if !listen.ip().is_unspecified() && !addresses.contains(&listen.ip()) {
        addresses.push(listen.ip());
    }
    if let Some(own) = net::primary_address().context("cannot read this machine's addresses")?
        && !addresses.contains(&own)
    {
        addresses.push(own);
    }
    for san in &cluster.tls_sans {
        match san.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(san),
        }
    }
    let profile = Profile::server("kube-apiserver", &names, &addresses);
    let issued = pki.certificate("apiserver", &profile).context("cannot make a certificate")?;
    // The authority goes with it: whoever joins knows it by its hash.
    let chain = issued.cert_pem + pki.ca.cert_pem();
    apiserver::tls(&chain, &issued.key_pem, pki.ca.cert_pem()).context("TLS is not usable")
}

fn certificate_of_admin(pki: &Pki) -> Result<pki::Issued> {
    let profile = Profile::client("kubernetes-admin", &[User::MASTERS]);
    pki.certificate("admin", &profile).context("cannot make the administrator's certificate")
}

/// Where a node finds what it must know of its cluster.
pub(crate) const SETTINGS: &str = "kybern-cluster";

/// Tells nodes the cluster's id and ranges.
async fn publish(client: &Client, cluster: &Cluster) -> Result<()> {
    let data = [
        ("clusterId", cluster.id.clone()),
        ("podCidr", cluster.pod_cidr.clone()),
        ("serviceCidr", cluster.service_cidr.clone()),
        ("clusterDns", cluster.dns_ip()?.to_string()),
        ("clusterDomain", "cluster.local".to_owned()),
    ];
    let metadata = ObjectMeta {
        name: Some(SETTINGS.to_owned()),
        namespace: Some("kube-public".to_owned()),
        ..ObjectMeta::default()
    };
    let data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let object = ConfigMap { metadata, data: Some(data), ..ConfigMap::default() };
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": SETTINGS, "namespace": "kube-public"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"],
                   "resourceNames": [SETTINGS]}],
    });
    let group = |name: &str| json!({"apiGroup": rbac, "kind": "Group", "name": name});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": SETTINGS, "namespace": "kube-public"},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": SETTINGS},
        "subjects": [group("system:nodes"), group("system:bootstrappers")],
    });
    // A node routes to the others and serves all Services, as kube-proxy does elsewhere.
    let network = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "kybern:node-network"},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [group("system:nodes")],
    });
    let object = serde_json::to_value(&object).context("cannot encode the settings")?;
    let public = Some("kube-public");
    for (plural, namespace, object) in [
        ("roles", public, role),
        ("rolebindings", public, binding),
        ("clusterrolebindings", None, network),
    ] {
        let resource = Resource::fixed("rbac.authorization.k8s.io", "v1", plural);
        create_or_keep(client, &resource, namespace, &object).await?;
    }
    create_or_keep(client, &Resource::fixed("", "v1", "configmaps"), public, &object).await?;
    let dns = dns_service(&cluster.dns_ip()?.to_string());
    let services = Resource::fixed("", "v1", "services");
    create_or_keep(client, &services, Some("kube-system"), &dns).await?;
    Ok(())
}

/// Every node answers for it itself, so it selects no pods.
fn dns_service(address: &str) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": 53, "targetPort": 53});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true",
            "kubernetes.io/name": "CoreDNS",
        }},
        "spec": {"clusterIP": address, "ports": [port("dns", "UDP"), port("dns-tcp", "TCP")]},
    })
}

async fn create_or_keep(
    client: &Client,
    resource: &Resource,
    namespace: Option<&str>,
    object: &Value,
) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let key = Key::new(namespace.unwrap_or_default(), name);
    if client.get_value(resource, &key).await.is_ok() {
        return Ok(());
    }
    match client.create_value(resource, namespace, object).await {
        Ok(_) => Ok(()),
        Err(client::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        Err(error) => Err(error).context("cannot publish the cluster's settings"),
    }
}

/// The administrator's way to the cluster in a data folder.
pub(crate) struct Access {
    ca_pem: String,
    cert_pem: String,
    key_pem: String,
    server: String,
}

impl Access {
    pub(crate) fn load(dir: &DataDir) -> Result<Self> {
        let cluster = cluster::existing(dir)?;
        let pki = Pki::load_or_create(&dir.pki()).context("cannot load the keys")?;
        let admin = certificate_of_admin(&pki)?;
        Ok(Self {
            ca_pem: pki.ca.cert_pem().to_owned(),
            cert_pem: admin.cert_pem,
            key_pem: admin.key_pem,
            server: crate::up::cluster_url(&cluster),
        })
    }

    pub(crate) fn kubeconfig<'a>(&'a self, server: &'a str) -> kubeconfig::Access<'a> {
        kubeconfig::Access {
            server,
            ca_pem: &self.ca_pem,
            cert_pem: &self.cert_pem,
            key_pem: &self.key_pem,
        }
    }

    pub(crate) fn client(&self) -> Result<Client> {
        let mut config = HttpsConfig::new(self.server.clone());
        config.ca_pem = self.ca_pem.clone().into_bytes();
        config.identity = Identity::ClientCert {
            cert_pem: self.cert_pem.clone().into_bytes(),
            key_pem: self.key_pem.clone().into_bytes(),
        };
        Ok(Client::https(config)?)
    }

    /// For the nodes that `kybern up` starts; it is used within minutes.
    pub(crate) fn node_token(&self) -> Result<String> {
        self.join_token(Duration::from_secs(600))
    }

    /// Makes a bootstrap token that runs out.
    pub(crate) fn join_token(&self, life: Duration) -> Result<String> {
        let (id, secret) = (letters(6), letters(16));
        let until = api::k8s::jiff::Timestamp::now() + life;
        let data = json!({
            "token-id": id, "token-secret": secret,
            "expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "usage-bootstrap-authentication": "true", "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kybern",
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": format!("bootstrap-token-{id}"), "namespace": "kube-system"},
            "stringData": data,
        });
        let client = self.client()?;
        let resource = Resource::of::<Secret>();
        let made = client.create_value(&resource, Some("kube-system"), &object);
        crate::runtime_for_command()?.block_on(made).context("cannot make a join token")?;
        let ca = crate::join::der_of(&self.ca_pem)?;
        Ok(JoinToken::new(&ca, &format!("{id}.{secret}")).to_string())
    }
}

fn letters(n: usize) -> String {
    const ALL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..n).map(|_| char::from(ALL[random.random_range(0..ALL.len())])).collect()
}

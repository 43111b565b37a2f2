//! From a configuration to a running node.
use crate::cluster::Cluster;
use crate::collector::Collector;
use crate::config::AgentConfig;
use crate::events::Events;
use crate::eviction::Evictor;
use crate::gauges::MachineGauges;
use crate::hosts::Resolver;
use crate::manager::{self, Own, PodTable};
use crate::node::machine::Machine;
use crate::node::{Health, NodeKeeper};
use crate::objects::ObjectCache;
use crate::pull::Puller;
use crate::seams::Images;
use crate::shared::{Routes, Shared};
use crate::store::Store;
use crate::view::{NodeView, Summaries};
use api::k8s::api::core::v1::Node;
use dns::DnsConfig;
use informer::{Recorder, Reflector, Step};
use ipnet::Ipv4Net;
use join::{JoinConfig, Member};
use net::{LocalService, NetConfig, NetEvent, NodeNet, Vxlan};
use nix::mount::{MsFlags, mount};
use nodeapi::Credentials;
use podlife::NodeFacts;
use runtime::Runtime;
use runtime::embedded::Embedded;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

const RUNTIME: &str = "kybern";
const DNS_PORT: u16 = 53;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot join the cluster")]
    Join(#[from] join::Error),
    #[error("cannot use the image store")]
    Images(#[from] images::Error),
    #[error("the container runtime does not work")]
    Runtime(#[from] runtime::Error),
    #[error("cannot set up the node's network")]
    Network(#[from] net::Error),
    #[error("cannot answer DNS")]
    Dns(#[from] dns::Error),
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("a part of the agent ended: {0}")]
    Ended(&'static str),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Io { what, source }
}

/// Runs the node until `stopped` says true; pods go on running. Must be called in the node's
/// network namespace. `ready` is called once, when the node is ready.
pub async fn run(
    config: AgentConfig,
    mut stopped: watch::Receiver<bool>,
    ready: impl FnOnce() + Send,
) -> Result<(), Error> {
    tokio::select! {
        result = serve(config, ready) => result,
        // Without a sender nobody will ever stop it this way.
        Ok(_) = stopped.wait_for(|stopped| *stopped) => Ok(()),
    }
}

async fn serve(config: AgentConfig, ready: impl FnOnce() + Send) -> Result<(), Error> {
    prepare_folders(&config)?;
    let member = join::join(join_config(&config), &config.root.join("pki")).await?;
    let client = member.client.clone();
    let runtime: Arc<dyn Runtime> =
        Arc::new(Embedded::new(config.root.join("runtime"), config.shim.clone())?);
    let images: Arc<dyn Images> =
        Arc::new(Store::new(Arc::new(images::Images::open(&config.images_dir)?)));
    let version = format!("{RUNTIME}://{}", env!("CARGO_PKG_VERSION"));
    let machine = Machine::detect(&config.root, &version);
    let recorder = Recorder::start(client.clone(), "kubelet", &config.node_name);
    let keeper = Arc::new(NodeKeeper {
        config: config.clone(),
        client: client.clone(),
        machine: machine.clone(),
        images: images.clone(),
        events: Events::new(Some(recorder)),
    });
    let node = keeper.register().await;
    let (seen, node_now) = watch::channel(Arc::new(node.clone()));
    let pod_cidr = pod_cidr(&config, &client, &node).await;
    let network = Arc::new(start_network(&config, pod_cidr).await?);
    let dns = dns::Server::start(dns_config(&config, &network)).await?;
    let (rules, waiting) = mpsc::unbounded_channel();
    let cluster = Arc::new(Cluster::start(client.clone(), dns.zone(), rules.clone(), seen.clone()));
    let local = local_dns(&network);
    let objects = ObjectCache::new(client.clone(), &config.node_name);
    let puller = Puller {
        images: images.clone(),
        objects: Arc::new(objects.clone()),
        events: keeper.events.clone(),
    };
    let shared = Arc::new(Shared {
        volumes: volume::Context {
            pods_dir: config.pods_dir(),
            memory_dir: config.memory_dir(),
            objects: Arc::new(objects.clone()),
            images: Arc::new(puller.clone()),
            // Of the machine: the node's object has no status yet when it has just been made.
            allocatable: Arc::new(manager::amounts(&machine.resources(&config).1)),
            host_ips: vec![config.node_ip.to_string()],
        },
        client: client.clone(),
        runtime,
        puller,
        network: Arc::new(network.clone()),
        follow: Arc::new(objects),
        services: cluster.clone(),
        events: keeper.events.clone(),
        node: NodeFacts { host_ips: vec![config.node_ip.to_string()], runtime: RUNTIME.to_owned() },
        resolver: Resolver::of_machine(),
        memory_bytes: machine.memory_bytes,
        routes: Routes::default(),
        config: config.clone(),
    });
    let table = PodTable::default();
    let (health, healthy) = watch::channel(Health::starting());
    let own = Own { node: node_now.clone(), health: healthy.clone() };
    let (changes, waiting_changes) = mpsc::unbounded_channel();
    let gauges = Arc::new(MachineGauges::new(&config));
    let collector = Arc::new(Collector::new(&shared, images, gauges, node_now));
    let evictor = Evictor::new(&collector, table.clone(), health.clone(), changes.clone());
    let view = Arc::new(NodeView {
        shared: shared.clone(),
        pods: table.clone(),
        summaries: Summaries::default(),
    });
    let listener = listen(&config).await?;
    let credentials = credentials(&member, &config);
    let become_ready = async {
        cluster.synced().await;
        let _ = rules.send(NetEvent::Synced);
        health.send_modify(|health| health.not_ready = None);
        ready();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = member.keep_renewed() => Err(Error::Ended("certificate renewal")),
        () = keeper.keep(node, healthy, seen) => Err(Error::Ended("node status")),
        result = nodeapi::serve(listener, credentials, view) => {
            result.map_err(io("serve the node API"))
        }
        result = manager::run(shared, own, table, (changes, waiting_changes)) => {
            result.map_err(Error::Runtime)
        }
        () = evictor.run() => Err(Error::Ended("eviction")),
        () = collector.run() => Err(Error::Ended("collecting images")),
        result = drive_network(network, waiting, local) => result,
        () = become_ready => Err(Error::Ended("start")),
    }
}

fn prepare_folders(config: &AgentConfig) -> Result<(), Error> {
    for dir in [config.root.clone(), config.pods_dir(), config.memory_dir(), config.logs_dir()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .map_err(io(format!("make the folder {}", dir.display())))?;
    }
    let memory = config.memory_dir();
    if !is_mount_point(&memory).map_err(io(format!("read {}", memory.display())))? {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("kybern"), &memory, Some("tmpfs"), flags, Some("mode=0755"))
            .map_err(|errno| io(format!("mount {}", memory.display()))(errno.into()))?;
    }
    Ok(())
}

fn is_mount_point(dir: &Path) -> std::io::Result<bool> {
    let Some(parent) = dir.parent() else { return Ok(true) };
    Ok(std::fs::metadata(dir)?.dev() != std::fs::metadata(parent)?.dev())
}

fn join_config(config: &AgentConfig) -> JoinConfig {
    JoinConfig {
        node: config.node_name.clone(),
        server: config.server.clone(),
        ca_pem: config.ca_pem.clone(),
        bootstrap_token: config.bootstrap_token.clone(),
        addresses: vec![config.node_ip],
    }
}

/// The node's part of the pod network: waits until a controller has given it one.
async fn pod_cidr(config: &AgentConfig, client: &client::Client, node: &Node) -> Ipv4Net {
    let of = |node: &Node| node.spec.as_ref()?.pod_cidr.as_ref()?.parse::<Ipv4Net>().ok();
    if let Some(known) = of(node) {
        return known;
    }
    let (found, mut changes) = mpsc::unbounded_channel();
    let fields = format!("metadata.name={}", config.node_name);
    let reflector = Reflector::new(client.clone(), client::Resource::of::<Node>()).fields(fields);
    let follow = reflector.run::<Node>(move |step| {
        let nodes = match step {
            Step::Reset { items, .. } => items,
            Step::Changed { object, .. } => vec![object],
            Step::Deleted { .. } | Step::Progress { .. } => return,
        };
        for cidr in nodes.iter().filter_map(of) {
            let _ = found.send(cidr);
        }
    });
    tokio::pin!(follow);
    loop {
        tokio::select! {
            () = &mut follow => {}
            Some(cidr) = changes.recv() => return cidr,
        }
    }
}

async fn start_network(config: &AgentConfig, pod_cidr: Ipv4Net) -> Result<NodeNet, Error> {
    let net_config = NetConfig {
        cluster_id: config.cluster_id.clone(),
        node: config.node_name.clone(),
        node_ip: config.node_ip,
        pod_cidr,
        cluster_cidr: config.cluster_cidr,
        service_cidr: config.service_cidr,
        vxlan: Vxlan::default(),
        mtu: config.mtu,
        data_dir: config.root.join("net"),
    };
    let started = tokio::task::spawn_blocking(move || NodeNet::start(net_config)).await;
    Ok(started.map_err(|_| Error::Ended("network start"))??)
}

fn dns_address(network: &NodeNet) -> SocketAddrV4 {
    SocketAddrV4::new(network.gateway(), DNS_PORT)
}

fn dns_config(config: &AgentConfig, network: &NodeNet) -> DnsConfig {
    DnsConfig {
        bind: vec![SocketAddr::V4(dns_address(network))],
        upstreams: dns::system_upstreams(),
        domain: config.cluster_domain.clone(),
        networks: vec![config.cluster_cidr, config.service_cidr],
    }
}

/// Every node answers the cluster's DNS service itself.
fn local_dns(network: &NodeNet) -> Vec<LocalService> {
    vec![LocalService {
        namespace: "kube-system".to_owned(),
        name: "kube-dns".to_owned(),
        port: DNS_PORT,
        address: dns_address(network),
    }]
}

async fn listen(config: &AgentConfig) -> Result<TcpListener, Error> {
    let address = SocketAddr::new(config.node_ip, config.port);
    TcpListener::bind(address).await.map_err(io(format!("listen on {address} for the node API")))
}

/// The serving certificate as the node API wants it, renewed along with it.
fn credentials(member: &Member, config: &AgentConfig) -> watch::Receiver<Arc<Credentials>> {
    let mut serving = member.serving.clone();
    let ca = config.ca_pem.clone();
    let make = move |own: &join::Credential| {
        Arc::new(Credentials {
            cert_pem: own.cert_pem.clone(),
            key_pem: own.key_pem.clone(),
            client_ca_pem: ca.clone(),
        })
    };
    let first = make(&serving.borrow_and_update());
    let (send, receive) = watch::channel(first);
    tokio::spawn(async move {
        while serving.changed().await.is_ok() {
            let own = serving.borrow_and_update().clone();
            if send.send(make(&own)).is_err() {
                return;
            }
        }
    });
    receive
}

async fn drive_network(
    network: Arc<NodeNet>,
    events: mpsc::UnboundedReceiver<NetEvent>,
    local: Vec<LocalService>,
) -> Result<(), Error> {
    net::run(network, events, local).await?;
    Err(Error::Ended("following the cluster"))
}

//! `kybern up`: from a bare machine to a cluster that answers.
//!
//! What was typed becomes a [`Cluster`] before any process is started or port bound; a start that
//! fails half-way ends what it had started.
use crate::cluster::{self, Cluster};
use crate::output::{Format, Progress, show};
use crate::paths::DataDir;
use crate::process::{self, Component};
use crate::{Folder, datastore, kubeconfig};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use value::json;

const SERVER_PATIENCE: Duration = Duration::from_secs(60);
const NODE_PATIENCE: Duration = Duration::from_secs(90);
const NODES_MAX: u32 = 64;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kybern up
  kybern up --nodes 3
  kybern up --data-dir /tmp/second --listen 127.0.0.1:7443
  kybern up --listen 0.0.0.0:6443 --tls-san kube.example.com
  kybern up --datastore etcds://10.0.0.5:2379,10.0.0.6:2379/kybern --etcd-cafile ca.crt \\
      --etcd-certfile client.crt --etcd-keyfile client.key
  kybern up --print-systemd-unit > /etc/systemd/system/kybern.service")]
pub(crate) struct Up {
    #[command(flatten)]
    folder: Folder,
    /// The address on which the API server listens [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    listen: Option<SocketAddrV4>,
    /// A name or an address that the API server's certificate is for too; give it again for more
    #[arg(long = "tls-san", value_name = "NAME", value_parser = san)]
    tls_sans: Vec<String>,
    /// How many nodes to run on this machine [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u32>,
    /// Below these levels of a node pods are evicted [default: the kubelet's]
    #[arg(long, value_name = "THRESHOLDS", env = "KYBERN_EVICTION_HARD", value_parser = thresholds)]
    eviction_hard: Option<String>,
    /// Stay in the foreground until told to stop; the pods go on when it ends
    #[arg(long)]
    foreground: bool,
    /// Leave the user's kubeconfig alone
    #[arg(long)]
    no_merge_kubeconfig: bool,
    /// Print no progress
    #[arg(long, short)]
    quiet: bool,
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Print a unit file for systemd and end
    #[arg(long)]
    print_systemd_unit: bool,
    #[command(flatten)]
    datastore: datastore::Options,
}

/// What this command has started, for the clean-up when it fails.
#[derive(Default)]
struct Started(Vec<Component>);

impl Up {
    pub(crate) fn run(self) -> Result<()> {
        if self.print_systemd_unit {
            return self.print_unit();
        }
        crate::require_root("up")?;
        let dir = self.folder.open()?;
        let progress = Progress::new(!self.quiet && self.output == Format::Text);
        make_folders(&dir)?;
        let lock = process::lock(&dir.run().join("lock"))?;
        let known = cluster::load(&dir)?;
        let first = known.is_none();
        // Whoever stayed before may have been killed: what runs without it is taken over.
        let staying = match self.foreground {
            true => Some(process::try_lock(&dir.run().join("foreground"))?),
            false => None,
        };
        if !matches!(staying, Some(Some(_))) {
            refuse_if_running(&dir, known.as_ref())?;
            ensure!(staying.is_none(), "another `kybern up --foreground` is about to end: wait");
        }
        let cluster = self.decide(&dir, known)?;
        if process::running(&dir, "server").is_none() {
            check_port(&cluster)?;
        }
        crate::needs::check(dir.root(), false)?;
        cluster::save(&dir, &cluster)?;
        let mut started = Started::default();
        let outcome = self.start(&dir, &cluster, &progress, &mut started);
        if let Err(error) = outcome {
            progress.line("that failed: ending what was started");
            for process in started.0.iter().rev() {
                process::stop_component(process, Duration::from_secs(10));
            }
            if first {
                // A first start that failed leaves nothing that runs; the data stays for a look.
                let _ = crate::down::end_workloads(&dir, &cluster);
                let _ = std::fs::remove_file(dir.cluster());
            }
            return Err(error);
        }
        self.tell(&dir, &cluster, &progress);
        let told = self.foreground.then(Told::listen).transpose()?;
        // Other commands may do their work while this one only waits.
        drop(lock);
        told.map_or(Ok(()), |told| told.stay(&dir))
    }

    /// What was typed, what was decided before, and what this machine has free, in that order.
    fn decide(&self, dir: &DataDir, known: Option<Cluster>) -> Result<Cluster> {
        let is_new = known.is_none();
        let mut cluster = match known {
            Some(cluster) => cluster,
            None => fresh(dir)?,
        };
        if let Some(listen) = self.listen {
            cluster.listen = listen.to_string();
        }
        for san in &self.tls_sans {
            if !cluster.tls_sans.contains(san) {
                cluster.tls_sans.push(san.clone());
            }
        }
        self.datastore.apply(&mut cluster, is_new)?;
        if let Some(nodes) = self.nodes {
            let names = node_names(nodes);
            let kept = cluster.nodes.iter().all(|node| names.contains(node));
            ensure!(
                cluster.nodes.is_empty() || kept,
                "the cluster in {} has {} nodes already: `kybern down --wipe` first to have other ones",
                dir.root().display(),
                cluster.nodes.len()
            );
            cluster.nodes = names;
        } else if cluster.nodes.is_empty() {
            cluster.nodes = node_names(1);
        }
        Ok(cluster)
    }

    fn start(
        &self,
        dir: &DataDir,
        cluster: &Cluster,
        progress: &Progress,
        started: &mut Started,
    ) -> Result<()> {
        let mut say = |text: &str| progress.line(text);
        progress.line("starting the control plane");
        // Meanwhile: the image is made from the binary, which takes a moment to read.
        let image_dir = dir.clone();
        let toolbox = std::thread::spawn(move || make_toolbox(&image_dir));
        if process::running(dir, "server").is_none() {
            let data_dir = dir.root().to_string_lossy().into_owned();
            let args = ["server".to_owned(), "--data-dir".to_owned(), data_dir];
            started.0.push(process::start(dir, "server", &args, SERVER_PATIENCE, &mut say)?);
        }
        toolbox.join().map_err(|_| anyhow::anyhow!("making the built-in image panicked"))??;
        let access = crate::server::Access::load(dir)?;
        let config = kubeconfig::config(&access.kubeconfig(&cluster_url(cluster)));
        kubeconfig::write_admin(&dir.admin_kubeconfig(), &config)?;
        progress.line(&match cluster.nodes.len() {
            1 => "starting the node".to_owned(),
            n => format!("starting {n} nodes"),
        });
        // Over a file and not as an argument, which everybody on the machine may read.
        cluster::write_private(&dir.join_token(), access.node_token()?.as_bytes())?;
        let outcome = self.start_nodes(dir, cluster, started);
        let _ = std::fs::remove_file(dir.join_token());
        outcome?;
        if !self.no_merge_kubeconfig
            && let Some(path) = kubeconfig::merged_into(kubeconfig::users_files())
        {
            let context = kubeconfig::merge(&path, &config, &Cluster::second_context(dir))?;
            progress.line(&format!("context `{context}` is in {}", path.display()));
        }
        Ok(())
    }

    /// The nodes that do not run, all at once.
    fn start_nodes(&self, dir: &DataDir, cluster: &Cluster, started: &mut Started) -> Result<()> {
        let missing =
            |index: &usize| process::running(dir, &agent_of(&cluster.nodes[*index])).is_none();
        let nodes = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..cluster.nodes.len())
                .filter(missing)
                .map(|index| scope.spawn(move || self.start_node(dir, cluster, index)))
                .collect();
            tasks.into_iter().map(|task| task.join()).collect::<Vec<_>>()
        });
        let mut failure = None;
        for node in nodes {
            match node.map_err(|_| anyhow::anyhow!("starting a node panicked"))? {
                Ok(process) => started.0.push(process),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn start_node(&self, dir: &DataDir, cluster: &Cluster, index: usize) -> Result<Component> {
        let name = &cluster.nodes[index];
        let mut args = vec!["agent".to_owned()];
        let mut push = |flag: &str, value: String| args.extend([flag.to_owned(), value]);
        push("--data-dir", dir.node(name).to_string_lossy().into_owned());
        push("--images-dir", dir.images().to_string_lossy().into_owned());
        push("--server", cluster.advertise_url()?);
        push("--token-file", dir.join_token().to_string_lossy().into_owned());
        push("--node-name", name.clone());
        if let Some(thresholds) = &self.eviction_hard {
            push("--eviction-hard", thresholds.clone());
        }
        if cluster.nodes.len() > 1 {
            let subnet = cluster.node_cidr.parse().context("the node network in cluster.json")?;
            let ns =
                net::hostlab::create_node_ns(&cluster.id, dir.root(), name, index as u32, subnet)
                    .with_context(|| format!("cannot make the network of node {name}"))?;
            push("--netns", ns.path.to_string_lossy().into_owned());
            push("--node-ip", ns.ip.to_string());
        } else {
            let machines = if cluster.own_node_address { None } else { machine_ip()? };
            push("--node-ip", machines.map_or_else(|| cluster.advertise_ip(), Ok)?.to_string());
        }
        process::start(dir, &agent_of(name), &args, NODE_PATIENCE, &mut |_| ())
    }

    fn tell(&self, dir: &DataDir, cluster: &Cluster, progress: &Progress) {
        let kubeconfig = dir.admin_kubeconfig();
        let report = json!({
            "server": cluster_url(cluster),
            "kubeconfig": kubeconfig,
            "nodes": cluster.nodes,
            "seconds": (progress.seconds() * 1000.0).round() / 1000.0,
        });
        if self.quiet && self.output == Format::Text {
            return;
        }
        show(self.output, &report, || {
            let hint = if self.no_merge_kubeconfig {
                format!("export KUBECONFIG={}\n  ", kubeconfig.display())
            } else {
                String::new()
            };
            format!(
                "The cluster is ready. Next:\n\n  {hint}kubectl get nodes\n  \
                 kubectl create deployment hello --image=kybern.local/toolbox --replicas=3 \
                 -- toolbox serve\n\n"
            )
        });
    }

    fn print_unit(&self) -> Result<()> {
        let exe = std::env::current_exe().context("cannot find the path of this program")?;
        let dir = self.folder.open()?;
        crate::output::print(&format!(
            "[Unit]\nDescription=Kybern: Kubernetes in one binary\nAfter=network-online.target\n\
             Wants=network-online.target\n\n[Service]\n\
             ExecStart={} up --foreground --quiet --data-dir {}\n\
             # Pods outlive a restart of kybern.\nKillMode=process\nDelegate=yes\n\
             Restart=always\nRestartSec=1\nLimitNOFILE=1048576\nTasksMax=infinity\n\n\
             [Install]\nWantedBy=multi-user.target\n",
            exe.display(),
            dir.root().display()
        ));
        Ok(())
    }
}

fn make_toolbox(dir: &DataDir) -> Result<()> {
    let images = crate::image::store_of(dir).context("cannot open the image store")?;
    let exe = std::path::Path::new("/proc/self/exe");
    images.ensure_toolbox(exe, &toolbox::names()).context("cannot make the built-in image")?;
    Ok(())
}

fn thresholds(text: &str) -> Result<String, String> {
    podlife::eviction::parse(text).map(|_| text.to_owned())
}

fn listen_address(text: &str) -> Result<SocketAddrV4, String> {
    let hint = "give an address of this machine and a port, such as 127.0.0.1:6443 or 0.0.0.0:6443";
    match text.parse() {
        Ok(SocketAddr::V4(address)) if address.port() > 0 => Ok(address),
        Ok(SocketAddr::V6(_)) => Err("only IPv4 addresses are served so far".to_owned()),
        _ => Err(hint.to_owned()),
    }
}

/// An address, or a DNS name; its first label may be `*`.
fn san(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_name = name.len() <= 253 && name.split('.').all(is_label);
    match text.parse::<IpAddr>().is_ok() || is_name {
        true => Ok(text.to_owned()),
        false => Err("give a DNS name or an address".to_owned()),
    }
}

pub(crate) fn cluster_url(cluster: &Cluster) -> String {
    let listen = cluster.listen.replace("0.0.0.0", "127.0.0.1");
    format!("https://{listen}")
}

fn node_names(nodes: u32) -> Vec<String> {
    match nodes {
        1 => vec!["kybern".to_owned()],
        n => (0..n).map(|index| format!("kybern-{index}")).collect(),
    }
}

fn fresh(dir: &DataDir) -> Result<Cluster> {
    let (pods, services) = net::free_networks().context("cannot choose address ranges")?;
    let nodes = net::hostlab::free_subnet().context("cannot choose address ranges")?;
    Ok(Cluster {
        format: cluster::FORMAT,
        id: cluster::id_of(dir.root()),
        listen: "127.0.0.1:6443".to_owned(),
        pod_cidr: pods.to_string(),
        service_cidr: services.to_string(),
        node_cidr: nodes.to_string(),
        own_node_address: is_taken()?,
        nodes: Vec::new(),
        datastore: "embedded".to_owned(),
        tls_sans: Vec::new(),
        etcd: datastore::Etcd::default(),
    })
}

fn make_folders(dir: &DataDir) -> Result<()> {
    for folder in [dir.root().to_path_buf(), dir.run(), dir.logs(), dir.nodes(), dir.pki()] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
    }
    // Containers reach their volumes through it; the secrets inside have modes of their own.
    let open = std::fs::Permissions::from_mode(0o711);
    for folder in [dir.root().to_path_buf(), dir.nodes()] {
        std::fs::set_permissions(&folder, open.clone())
            .with_context(|| format!("cannot set the mode of {}", folder.display()))?;
    }
    Ok(())
}

fn check_port(cluster: &Cluster) -> Result<()> {
    TcpListener::bind(&cluster.listen).map(drop).map_err(|error| {
        let what = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another program listens there: stop it, or choose another --listen".to_owned()
            }
            _ => format!("{error}: choose another --listen"),
        };
        anyhow::anyhow!("cannot listen on {}: {what}", cluster.listen)
    })
}

fn refuse_if_running(dir: &DataDir, cluster: Option<&Cluster>) -> Result<()> {
    let Some(server) = process::running(dir, "server") else { return Ok(()) };
    let runs = |node: &String| process::running(dir, &agent_of(node)).is_some();
    if cluster.is_some_and(|cluster| !cluster.nodes.iter().all(runs)) {
        return Ok(());
    }
    let pid = server.main.or(server.supervisor).map_or(0, |process| process.pid);
    bail!(
        "the cluster in {} is running (pid {pid}): see `kybern status`, or `kybern down` first",
        dir.root().display(),
    );
}

pub(crate) fn agent_of(node: &str) -> String {
    format!("agent-{node}")
}

/// A node, of another cluster as it must be, has the machine's address already.
fn is_taken() -> Result<bool> {
    let Some(ip) = machine_ip()? else { return Ok(false) };
    let bound = TcpListener::bind((ip, ::agent::config::NODE_PORT));
    Ok(bound.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse))
}

fn machine_ip() -> Result<Option<Ipv4Addr>> {
    Ok(match net::primary_address().context("cannot read this machine's addresses")? {
        Some(std::net::IpAddr::V4(ip)) => Some(ip),
        _ => None,
    })
}

/// Who stays in the foreground listens to what it is told, from before others can see it stay.
struct Told {
    runtime: tokio::runtime::Runtime,
    term: Signal,
    int: Signal,
}

impl Told {
    fn listen() -> Result<Self> {
        let runtime = crate::runtime_for_command()?;
        let _inside = runtime.enter();
        let term = signal(SignalKind::terminate()).context("cannot listen to signals")?;
        let int = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        drop(_inside);
        Ok(Self { runtime, term, int })
    }

    /// Waits for a signal or for the end of a process; then ends the rest. Pods go on.
    fn stay(mut self, dir: &DataDir) -> Result<()> {
        let processes = process::all_running(dir);
        let (gone, mut ended) = tokio::sync::mpsc::unbounded_channel();
        // They need not be children of this process: the kernel tells each of their ends to a
        // thread.
        for supervisor in processes.iter().filter_map(|process| process.supervisor) {
            let gone = gone.clone();
            std::thread::spawn(move || {
                process::await_end(supervisor);
                let _ = gone.send(supervisor.pid);
            });
        }
        let ended = self.runtime.block_on(async {
            tokio::select! {
                _ = self.term.recv() => None,
                _ = self.int.recv() => None,
                pid = ended.recv() => pid,
            }
        });
        for process in processes.iter().rev() {
            process::stop_component(process, Duration::from_secs(10));
        }
        match ended {
            None => Ok(()),
            Some(pid) => bail!("process {pid} of the cluster ended: see `kybern logs`"),
        }
    }
}

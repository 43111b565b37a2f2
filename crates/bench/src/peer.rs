//! Upstream's control plane: etcd, kube-apiserver, kube-controller-manager and kube-scheduler,
//! built from their published Go modules into a cache folder, and started with their defaults.
//!
//! Only the clients' own rate limits are raised, so that upstream is not measured by them.
use crate::plane::spawn;
use crate::processes::Owned;
use anyhow::{Context, Result, ensure};
use client::{HttpsConfig, Identity};
use pki::{Pki, Profile};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const KUBERNETES: &str = "v1.37.2";
/// The version of Kubernetes' libraries that goes with it.
const LIBRARIES: &str = "v0.37.2";
const ETCD: &str = "v3.7.3";
const GO: &str = "go1.27.3";
const PROGRAMS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kube-scheduler"];
const TOKEN: &str = "bench";
/// The address of the bridge, which upstream wants to advertise.
const ADDRESS: &str = "10.91.0.1";
const SECURE_PORT: u16 = 7443;

#[derive(Debug, Clone)]
pub(crate) struct Binaries(PathBuf);

impl Binaries {
    pub(crate) fn find(cache: &Path) -> Result<Self> {
        let cache =
            cache.canonicalize().with_context(|| format!("{} is not there", cache.display()))?;
        Ok(Self(cache))
    }
    fn command(&self, program: &str) -> Command {
        Command::new(binary(&self.0, program))
    }
}

pub(crate) struct Started {
    pub(crate) access: HttpsConfig,
    pub(crate) processes: Vec<Owned>,
}

/// Builds what is not there yet.
pub(crate) fn build(cache: &Path) -> Result<()> {
    std::fs::create_dir_all(cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let cache = cache.canonicalize().context("the cache folder")?;
    if PROGRAMS.iter().any(|program| !binary(&cache, program).exists()) {
        let module = kubernetes_module(&cache)?;
        let wanted = PROGRAMS.map(|name| format!("k8s.io/kubernetes/cmd/{name}@{KUBERNETES}"));
        go(&module, &[&["get"], wanted.each_ref().map(String::as_str).as_slice()].concat())?;
        for program in PROGRAMS {
            build_one(&cache, &module, program, &format!("k8s.io/kubernetes/cmd/{program}"))?;
        }
    }
    if !binary(&cache, "etcd").exists() {
        let module = cache.join("etcd-module");
        write_module(&module, "module example.org/peer-etcd\n\ngo 1.26.0\n")?;
        go(&module, &["get", &format!("go.etcd.io/etcd/server/v3@{ETCD}")])?;
        build_one(&cache, &module, "etcd", "go.etcd.io/etcd/server/v3")?;
    }
    Ok(())
}

/// Starts them; the caller waits for the API server.
pub(crate) async fn start(binaries: &Binaries, folder: &Path) -> Result<Started> {
    bridge()?;
    let keys = Keys::write(folder)?;
    let mut etcd = binaries.command("etcd");
    etcd.arg("--data-dir").arg(folder.join("etcd"));
    let mut processes = vec![spawn("etcd", &mut etcd, folder)?];
    let mut api = binaries.command("kube-apiserver");
    api.args([
        "--etcd-servers=http://127.0.0.1:2379",
        "--authorization-mode=Node,RBAC",
        "--service-cluster-ip-range=10.97.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
    ])
    .arg(format!("--advertise-address={ADDRESS}"))
    .arg(format!("--secure-port={SECURE_PORT}"))
    .arg(flag("tls-cert-file", &keys.cert))
    .arg(flag("tls-private-key-file", &keys.key))
    // It reads public keys out of certificates, but not out of private keys in PKCS #8.
    .arg(flag("service-account-key-file", &keys.cert))
    .arg(flag("service-account-signing-key-file", &keys.key))
    .arg(flag("token-auth-file", &keys.tokens))
    .arg(flag("cert-dir", folder));
    processes.push(spawn("kube-apiserver", &mut api, folder)?);
    let mut access = HttpsConfig::new(format!("https://127.0.0.1:{SECURE_PORT}"));
    access.ca_pem = keys.ca_pem.clone();
    access.identity = Identity::Token(TOKEN.to_owned());
    let ready = ready(&access, &mut processes).await;
    ready.map_err(|error| error.context(crate::plane::tails(&processes, folder)))?;
    let mut manager = binaries.command("kube-controller-manager");
    manager
        .args(["--kube-api-qps=1000", "--kube-api-burst=2000", "--leader-elect=false"])
        .arg("--use-service-account-credentials=false")
        .arg(flag("service-account-private-key-file", &keys.key))
        .arg(flag("root-ca-file", &keys.ca))
        .arg(flag("kubeconfig", &keys.kubeconfig))
        .arg(flag("cert-dir", folder));
    processes.push(spawn("kube-controller-manager", &mut manager, folder)?);
    let config = folder.join("scheduler.json");
    let text = serde_json::json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "leaderElection": {"leaderElect": false},
        "clientConnection": {"kubeconfig": keys.kubeconfig, "qps": 10000, "burst": 20000},
    });
    std::fs::write(&config, text.to_string()).context("cannot write the scheduler's settings")?;
    let mut scheduler = binaries.command("kube-scheduler");
    scheduler.arg(flag("config", &config)).arg(flag("cert-dir", folder));
    processes.push(spawn("kube-scheduler", &mut scheduler, folder)?);
    Ok(Started { access, processes })
}

/// The other programs end if the API server does not answer them at once.
async fn ready(access: &HttpsConfig, processes: &mut [Owned]) -> Result<()> {
    crate::plane::answered(&crate::load::Wire::new(access, 1)?, processes).await
}

/// What the programs are given as files.
struct Keys {
    ca: PathBuf,
    ca_pem: Vec<u8>,
    cert: PathBuf,
    key: PathBuf,
    tokens: PathBuf,
    kubeconfig: PathBuf,
}

impl Keys {
    fn write(folder: &Path) -> Result<Self> {
        let own = folder.join("pki");
        let pki = Pki::load_or_create(&own).context("cannot make keys")?;
        let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
        let addresses: Vec<IpAddr> = ["127.0.0.1", ADDRESS, "10.97.0.1"]
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        pki.certificate("peer", &Profile::server("kube-apiserver", &names, &addresses))
            .context("cannot make a certificate")?;
        let tokens = folder.join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},bench,bench,\"system:masters\"\n"))
            .context("cannot write the tokens")?;
        let ca = own.join("ca.crt");
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "peer",
            "clusters": [{"name": "peer", "cluster": {
                "server": format!("https://127.0.0.1:{SECURE_PORT}"), "certificate-authority": ca,
            }}],
            "users": [{"name": "peer", "user": {"token": TOKEN}}],
            "contexts": [{"name": "peer", "context": {"cluster": "peer", "user": "peer"}}],
        });
        let kubeconfig = folder.join("kubeconfig");
        std::fs::write(&kubeconfig, config.to_string()).context("cannot write a kubeconfig")?;
        Ok(Self {
            ca_pem: pki.ca.cert_pem().as_bytes().to_vec(),
            ca,
            cert: own.join("peer.crt"),
            key: own.join("peer.key"),
            tokens,
            kubeconfig,
        })
    }
}

/// A bridge with an address: upstream does not advertise loopback.
fn bridge() -> Result<()> {
    if Path::new("/proc/sys/net/ipv4/conf/bench0").exists() {
        return Ok(());
    }
    let address = format!("{ADDRESS}/24");
    for args in [
        ["link", "add", "bench0", "type", "bridge"].as_slice(),
        &["address", "add", &address, "dev", "bench0"],
        &["link", "set", "bench0", "up"],
    ] {
        run(Command::new("ip").args(args))?;
    }
    Ok(())
}

/// A module whose requirements are those of Kubernetes: its libraries are published beside it, but
/// it names them by folders of its own repository.
fn kubernetes_module(cache: &Path) -> Result<PathBuf> {
    let module = cache.join("kubernetes-module");
    write_module(&module, "module example.org/peer-kubernetes\n\ngo 1.26.0\n")?;
    let download = format!("k8s.io/kubernetes@{KUBERNETES}");
    let output = command(&module, &["mod", "download", "-json", &download])
        .output()
        .context("cannot run go")?;
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("what `go mod download` told")?;
    let file = told["GoMod"].as_str().with_context(|| {
        format!("cannot download {download}: {}", told["Error"].as_str().unwrap_or("no reason"))
    })?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let own = text.lines().filter_map(|line| {
        let (name, folder) = line.trim().split_once(" => ")?;
        folder.starts_with("./staging/").then(|| name.trim_start_matches("replace ").to_owned())
    });
    let replaced: String =
        own.map(|name| format!("replace {name} => {name} {LIBRARIES}\n")).collect();
    ensure!(!replaced.is_empty(), "{file} names no libraries of its own repository");
    write_module(
        &module,
        &format!(
            "module example.org/peer-kubernetes\n\ngo 1.26.0\n\n\
             require k8s.io/kubernetes {KUBERNETES}\n\n{replaced}"
        ),
    )?;
    Ok(module)
}

fn write_module(folder: &Path, text: &str) -> Result<()> {
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(folder.join("go.mod"), text))
        .with_context(|| format!("cannot write {}", folder.join("go.mod").display()))
}

fn build_one(cache: &Path, module: &Path, program: &str, package: &str) -> Result<()> {
    let path = binary(cache, program);
    if path.exists() {
        return Ok(());
    }
    let version = "k8s.io/component-base/version";
    let flags = format!(
        "-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 \
         -X {version}.gitMinor=37"
    );
    // Built under another name: what has the name is whole.
    let made = cache.join(format!("{program}.new"));
    let shown = made.to_string_lossy();
    go(module, &["build", "-trimpath", "-ldflags", &flags, "-o", &shown, package])?;
    std::fs::rename(&made, &path).with_context(|| format!("cannot keep {}", path.display()))
}

fn go(module: &Path, args: &[&str]) -> Result<()> {
    run(&mut command(module, args))
}

fn command(module: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(args).current_dir(module).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=mod");
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        command.env("GOTOOLCHAIN", GO);
    }
    command
}

fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {command:?}");
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

fn binary(cache: &Path, program: &str) -> PathBuf {
    cache.join(format!("{program}-{}", if program == "etcd" { ETCD } else { KUBERNETES }))
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

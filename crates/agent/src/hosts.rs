//! The files that a pod's containers share: `/etc/hosts`, `/etc/resolv.conf`, `/etc/hostname`.
use api::k8s::api::core::v1::Pod;
use podlife::PodExt;
use std::net::IpAddr;

/// Limits of resolv.conf as Kubernetes documents them.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH: usize = 32;
/// The longest host name of the kernel, less one.
const MAX_HOSTNAME: usize = 63;

/// What the machine's resolv.conf says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    pub nameservers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

impl Resolver {
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines().map(str::trim) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => found.nameservers.extend(words.take(1).map(str::to_owned)),
                Some("search") => found.search = words.map(str::to_owned).collect(),
                Some("domain") if found.search.is_empty() => {
                    found.search = words.take(1).map(str::to_owned).collect();
                }
                Some("options") => found.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        found.search.retain(|domain| domain != ".");
        found
    }
    /// The machine's own; behind a local stub resolver, that one's upstreams.
    pub fn of_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let first = Self::parse(&read("/etc/resolv.conf"));
        if first.nameservers.iter().any(|server| server == "127.0.0.53") {
            return Self::parse(&read("/run/systemd/resolve/resolv.conf"));
        }
        first
    }
    fn text(&self) -> String {
        let mut out = String::new();
        if !self.search.is_empty() {
            out.push_str(&format!("search {}\n", self.search.join(" ")));
        }
        for server in &self.nameservers {
            out.push_str(&format!("nameserver {server}\n"));
        }
        if !self.options.is_empty() {
            out.push_str(&format!("options {}\n", self.options.join(" ")));
        }
        out
    }
}

/// The pod's resolv.conf.
pub fn resolv_conf(pod: &Pod, machine: &Resolver, dns: IpAddr, domain: &str) -> String {
    let spec = pod.spec_ref();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirst" => !pod.host_network(),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut resolver = if policy == "None" {
        Resolver::default()
    } else if cluster {
        let mut search = vec![
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.to_owned(),
        ];
        search.extend(machine.search.iter().cloned());
        let options = vec!["ndots:5".to_owned()];
        Resolver { nameservers: vec![dns.to_string()], search, options }
    } else {
        machine.clone()
    };
    if let Some(own) = &spec.dns_config {
        resolver.nameservers.extend(own.nameservers.iter().flatten().cloned());
        resolver.search.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver.options.retain(|known| known.split(':').next() != Some(&name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    unique(&mut resolver.nameservers, MAX_NAMESERVERS);
    unique(&mut resolver.search, MAX_SEARCH);
    resolver.text()
}

fn unique(list: &mut Vec<String>, most: usize) {
    let mut seen = std::collections::BTreeSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list.truncate(most);
}

/// The pod's host name, and the domain below which the cluster's DNS knows it (maybe empty).
pub fn host_names(pod: &Pod, domain: &str) -> (String, String) {
    let spec = pod.spec_ref();
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if let Some(name) = set(&spec.hostname_override) {
        return (name, String::new());
    }
    let name = set(&spec.hostname).unwrap_or_else(|| pod.name().to_owned());
    let cut = name.get(..MAX_HOSTNAME.min(name.len())).unwrap_or(&name);
    let name = cut.trim_end_matches(['-', '.']).to_owned();
    let domain = set(&spec.subdomain)
        .map(|subdomain| format!("{subdomain}.{}.svc.{domain}", pod.namespace()));
    (name, domain.unwrap_or_default())
}

/// What the kernel is told as host name.
pub fn kernel_host_name(pod: &Pod, domain: &str) -> Result<String, String> {
    let (name, below) = host_names(pod, domain);
    if pod.spec_ref().set_hostname_as_fqdn != Some(true) || below.is_empty() {
        return Ok(name);
    }
    let whole = format!("{name}.{below}");
    match whole.len() {
        0..=64 => Ok(whole),
        n => Err(format!(
            "Failed to construct FQDN from pod hostname and cluster domain, FQDN {whole} is too \
             long (64 characters is the max, {n} characters requested)"
        )),
    }
}

/// The pod's /etc/hosts.
pub fn etc_hosts(pod: &Pod, ips: &[String], domain: &str, machine: &str) -> String {
    let mut out = if pod.host_network() {
        format!("# Kubernetes-managed hosts file (host network).\n{machine}")
    } else {
        let mut out = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost \
             ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (name, below) = host_names(pod, domain);
        for ip in ips {
            match below.as_str() {
                "" => out.push_str(&format!("{ip}\t{name}\n")),
                below => out.push_str(&format!("{ip}\t{name}.{below}\t{name}\n")),
            }
        }
        out
    };
    let aliases = pod.spec_ref().host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.clone().unwrap_or_default().join("\t");
            out.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let meta = json!({"name": "p", "namespace": "ns"});
        serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
    }

    #[test]
    fn resolvers_by_policy() {
        let machine = Resolver::parse(
            "# x\nnameserver 192.0.2.53\nsearch example.org .\noptions edns0 ndots:1\n",
        );
        let dns = IpAddr::from([10, 96, 0, 10]);
        let text = |spec| resolv_conf(&pod(spec), &machine, dns, "cluster.local");
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local example.org\n\
                       nameserver 10.96.0.10\noptions ndots:5\n";
        let host = "search example.org\nnameserver 192.0.2.53\noptions edns0 ndots:1\n";
        for (spec, want) in [
            (json!({"containers": []}), cluster),
            (json!({"containers": [], "hostNetwork": true}), host),
            (json!({"containers": [], "dnsPolicy": "Default"}), host),
            (
                json!({"containers": [], "hostNetwork": true,
                    "dnsPolicy": "ClusterFirstWithHostNet"}),
                cluster,
            ),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
                    "nameservers": ["1.1.1.1"], "searches": ["a", "a"],
                    "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]}}),
                "search a\nnameserver 1.1.1.1\noptions ndots:2 rotate\n",
            ),
        ] {
            assert_eq!(text(spec.clone()), want, "{spec}");
        }
        let own = json!({"containers": [], "dnsConfig": {"options": [
            {"name": "ndots", "value": "1"}]}});
        assert!(text(own).ends_with("options ndots:1\n"));
    }

    #[test]
    fn hosts_files() {
        let ips = ["10.0.0.9".to_owned()];
        let of = |spec| etc_hosts(&pod(spec), &ips, "cluster.local", "127.0.0.1 me\n");
        assert!(of(json!({"containers": []})).ends_with("\n10.0.0.9\tp\n"));
        let named = of(json!({"containers": [], "hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let want = "10.0.0.9\th.s.ns.svc.cluster.local\th\n\n# Entries added by HostAliases.\n\
                    1.2.3.4\ta\tb\n";
        assert!(named.ends_with(want), "{named}");
        let host = of(json!({"containers": [], "hostNetwork": true}));
        assert_eq!(host, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n");
    }

    #[test]
    fn long_host_names() {
        let mut long = pod(json!({"containers": []}));
        long.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(30)));
        assert_eq!(host_names(&long, "c").0, "a".repeat(62));
        let spec = json!({"containers": [], "setHostnameAsFQDN": true, "subdomain": "s"});
        let mut whole = pod(spec);
        assert_eq!(kernel_host_name(&whole, "c").unwrap(), "p.s.ns.svc.c");
        whole.metadata.name = Some("a".repeat(63));
        assert!(kernel_host_name(&whole, "c").is_err());
    }
}

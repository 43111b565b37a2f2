//! What a server is told at its start; checked before any port is bound.
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use store::Store;

pub struct Config {
    pub store: Arc<dyn Store>,
    pub pki: Arc<pki::Pki>,
    /// Where clients inside the cluster reach this server.
    pub advertise: (IpAddr, u16),
    /// The first address of it is the `kubernetes` Service's.
    pub service_cidr: Cidr,
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Of service-account tokens.
    pub issuer: String,
    pub audiences: Vec<String>,
    pub event_ttl_seconds: i64,
    /// A connection that has brought no request by then is closed.
    pub first_request: Duration,
}

impl Config {
    /// The usual values.
    pub fn new(store: Arc<dyn Store>, pki: Arc<pki::Pki>, advertise: (IpAddr, u16)) -> Self {
        let issuer = "https://kubernetes.default.svc.cluster.local".to_owned();
        Self {
            store,
            pki,
            advertise,
            service_cidr: Cidr { base: IpAddr::from([10, 96, 0, 0]), bits: 16 },
            node_ports: 30000..=32767,
            audiences: vec![issuer.clone()],
            issuer,
            event_ttl_seconds: 3600,
            first_request: Duration::from_secs(30),
        }
    }
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub base: IpAddr,
    pub bits: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = registry::names::parse_cidr(text)?;
        Some(Self { base: registry::names::network_of(base, bits), bits })
    }
    /// How many addresses, at most 2^16.
    pub fn size(&self) -> u32 {
        let width = if self.base.is_ipv4() { 32 } else { 128 };
        1 << (width - u32::from(self.bits)).min(16)
    }
    pub fn nth(&self, n: u32) -> IpAddr {
        match self.base {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base).wrapping_add(n)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base).wrapping_add(n.into())).into()),
        }
    }
    /// Which address of the range it is.
    pub fn index(&self, address: IpAddr) -> Option<u32> {
        let offset = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(it)) => {
                u128::from(u32::from(it).checked_sub(u32::from(base))?)
            }
            (IpAddr::V6(base), IpAddr::V6(it)) => u128::from(it).checked_sub(u128::from(base))?,
            _ => return None,
        };
        u32::try_from(offset).ok().filter(|offset| *offset < self.size())
    }
}

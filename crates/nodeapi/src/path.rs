//! What a URL of the node API asks for.
use crate::Named;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Health,
    Logs(Named),
    Exec(Named),
    Attach(Named),
    Run(Named),
    Forward(Named),
    Document,
}

impl Asked {
    /// `None` for a path that cannot be.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let text = |part: &str| part.to_owned();
        let named = |parts: &[&str]| match *parts {
            [namespace, pod, container] => Some(Named {
                namespace: text(namespace),
                pod: text(pod),
                uid: None,
                container: text(container),
            }),
            [namespace, pod, uid, container] => Some(Named {
                namespace: text(namespace),
                pod: text(pod),
                uid: Some(text(uid)),
                container: text(container),
            }),
            _ => None,
        };
        let pod = |parts: &[&str]| match *parts {
            [namespace, pod] => named(&[namespace, pod, ""]),
            [namespace, pod, uid] => named(&[namespace, pod, uid, ""]),
            _ => None,
        };
        match *parts.first()? {
            "healthz" if parts.len() <= 2 => Some(Self::Health),
            "containerLogs" => named(&parts[1..]).filter(|n| n.uid.is_none()).map(Self::Logs),
            "exec" => named(&parts[1..]).map(Self::Exec),
            "attach" => named(&parts[1..]).map(Self::Attach),
            "run" => named(&parts[1..]).map(Self::Run),
            "portForward" => pod(&parts[1..]).map(Self::Forward),
            _ => Some(Self::Document),
        }
    }

    /// The subresource of `nodes` that a caller must have a right to.
    pub(crate) fn subresource(&self, path: &str) -> &'static str {
        match self {
            Self::Document if path.starts_with("/metrics") => "metrics",
            Self::Document if path.starts_with("/stats") => "stats",
            Self::Document if path.starts_with("/logs") => "log",
            _ => "proxy",
        }
    }
}

/// The decoded pairs of a query.
pub(crate) fn query(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = || {
            let digits = text.get(at + 1..at + 3)?;
            u8::from_str_radix(digits, 16).ok()
        };
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => match hex() {
                Some(byte) => {
                    out.push(byte);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_containers_and_pods() {
        let asked = Asked::parse("/exec/ns/pod/uid/c").unwrap();
        let Asked::Exec(named) = asked else { panic!("{asked:?}") };
        assert_eq!((named.uid.as_deref(), named.container.as_str()), (Some("uid"), "c"));
        assert!(matches!(Asked::parse("/portForward/ns/pod"), Some(Asked::Forward(_))));
        assert_eq!(Asked::parse("/containerLogs/ns/pod"), None);
        assert_eq!(Asked::parse("/exec/ns"), None);
        assert_eq!(Asked::parse("/stats/summary").unwrap().subresource("/stats/summary"), "stats");
    }

    #[test]
    fn queries_are_decoded() {
        let pairs = query("command=sh&command=-c&command=echo+%22a%22%26b&x=%zz");
        let values: Vec<&str> = pairs.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["sh", "-c", "echo \"a\"&b", "%zz"]);
    }
}

//! Image references, by the rules of the Docker command line: `[host/]path[:tag][@digest]`, where a
//! missing host is `docker.io`, a bare name lives in `library/` there, and a missing tag is
//! `latest`.
use std::fmt;
use std::str::FromStr;

const DEFAULT_HOST: &str = "docker.io";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// A normalized reference to an image. With a digest, the tag does not take part in resolving.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    pub host: String,
    pub repository: String,
    pub tag: Option<String>,
    pub digest: Option<String>,
}

/// Why a text is no image reference; kubelet's reason for it is InvalidImageName.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {text:?}: {why}")]
pub struct RefError {
    pub text: String,
    pub why: &'static str,
}

impl ImageRef {
    /// `host/path`, as a registry and a status name it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.host, self.repository)
    }

    /// What a manifest is asked for by: the digest if there is one, else the tag.
    pub fn selector(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// `true` for `:latest` and no digest: what makes the default pull policy `Always`.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag.as_deref().is_none_or(|t| t == "latest")
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ImageRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        let fail = |why| RefError { text: text.chars().take(300).collect(), why };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|d| !is_digest(d)) {
            return Err(fail("the digest must be sha256: and 64 hexadecimal digits"));
        }
        // A colon after the last slash starts a tag; one before it belongs to the host's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|t| !is_tag(t)) {
            return Err(fail("invalid tag"));
        }
        let (host, repository) = match path.split_once('/') {
            Some((first, rest))
                if first.contains(['.', ':', '[']) || first == "localhost" || has_upper(first) =>
            {
                (first, rest.to_owned())
            }
            Some(_) => (DEFAULT_HOST, path.to_owned()),
            None => (DEFAULT_HOST, format!("library/{path}")),
        };
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        if !is_host(host) {
            return Err(fail("invalid registry host"));
        }
        if repository.len() > MAX_REPOSITORY {
            return Err(fail("the repository name is longer than 255 characters"));
        }
        if has_upper(&repository) {
            return Err(fail("repository name must be lowercase"));
        }
        if !repository.split('/').all(is_component) {
            return Err(fail("invalid reference format"));
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(ImageRef { host: host.to_owned(), repository, tag, digest: digest.map(str::to_owned) })
    }
}

/// `sha256:` and 64 lower-case hexadecimal digits; safe as a file name once the colon is cut.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn has_upper(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    if port.is_some_and(|p| p.parse::<u16>().is_err()) {
        return false;
    }
    if let Some(v6) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    name.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

/// Lower-case letters and digits, parted by one `.`, one or two `_`, or any number of `-`.
fn is_component(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let edges =
        bytes.first().copied().is_some_and(alnum) && bytes.last().copied().is_some_and(alnum);
    edges
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalizes_as_docker_does() {
        let hex = "a".repeat(64);
        for (text, want) in [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.25", "docker.io/library/nginx:1.25".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("index.docker.io/library/x", "docker.io/library/x:latest".to_owned()),
            ("kybern.local/toolbox", "kybern.local/toolbox:latest".to_owned()),
            ("localhost/a", "localhost/a:latest".to_owned()),
            ("localhost:5000/a/b__c-d.e:v1", "localhost:5000/a/b__c-d.e:v1".to_owned()),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest".to_owned()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned()),
            (&format!("a@sha256:{hex}"), format!("docker.io/library/a@sha256:{hex}")),
            (&format!("r.io/a:t@sha256:{hex}"), format!("r.io/a:t@sha256:{hex}")),
        ] {
            let parsed: ImageRef = text.parse().expect(text);
            assert_eq!(parsed.to_string(), want, "{text}");
            assert_eq!(parsed.to_string().parse::<ImageRef>().expect("stable"), parsed);
        }
    }

    #[test]
    fn refuses_what_is_no_reference() {
        let long = "a".repeat(256);
        for text in [
            "",
            "Nginx",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a@md5:xx",
            "/a",
            "a/",
            "a//b",
            "-a",
            "a..b",
            "a___b",
            "r.io/../x",
            "r.io:99999/x",
            "a b",
            "a:t:u",
            &long,
            "-.io/a",
            "..",
            ".",
            "é",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn knows_what_latest_is() {
        let latest = |t: &str| t.parse::<ImageRef>().expect(t).is_latest();
        assert!(latest("a") && latest("a:latest"));
        assert!(!latest("a:1") && !latest(&format!("a@sha256:{}", "0".repeat(64))));
    }
}

//! What a path and method ask for, in upstream's terms.
use api::{ApiError, Attributes};
use http::Method;
use std::collections::BTreeMap;
use std::num::{IntErrorKind, ParseIntError};

/// Query parameters, decoded; a parameter may be there more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    pub fn parse(text: &str) -> Self {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            map.entry(decode(key, true)).or_default().push(decode(value, true));
        }
        Self(map)
    }
    /// Empty if it is not there.
    pub fn get(&self, key: &str) -> &str {
        self.all(key).first().map_or("", String::as_str)
    }
    pub fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }
    /// There, and not `0` or `false`.
    pub fn flag(&self, key: &str) -> bool {
        self.has(key) && !matches!(self.get(key), "0" | "false" | "False" | "FALSE" | "f" | "F")
    }
    /// What is there must be a number.
    pub fn number(&self, key: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.all(key).first() else { return Ok(None) };
        text.parse().map(Some).map_err(|error: ParseIntError| {
            let why = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
    }
}

/// Percent-decoding; what is not valid stays as it is.
pub(crate) fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |b: u8| char::from(b).to_digit(16);
        let escaped = match bytes[at..] {
            [b'%', high, low, ..] => hex(high).zip(hex(low)).map(|(h, l)| (h * 16 + l) as u8),
            _ => None,
        };
        match (escaped, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (None, b'+') if plus_is_space => out.push(b' '),
            (None, byte) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    pub verb: &'static str,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What comes after the subresource, as `proxy` uses it; not decoded.
    pub rest: String,
    pub path: String,
}

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), ..Self::default() };
        info.verb = match *method {
            Method::GET => "get",
            Method::HEAD => "head",
            Method::POST => "post",
            Method::PUT => "put",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            Method::OPTIONS => "options",
            _ => "",
        };
        let mut parts = path.trim_matches('/').splitn(8, '/').peekable();
        match parts.next() {
            Some("api") => {}
            Some("apis") => match parts.next() {
                Some(group) => info.group = group.to_owned(),
                None => return info,
            },
            _ => return info,
        }
        let Some(version) = parts.next().filter(|version| !version.is_empty()) else { return info };
        if parts.peek().is_none() {
            info.version = version.to_owned();
            return info;
        }
        info.version = version.to_owned();
        let tail: String = {
            let skip = if info.group.is_empty() { 2 } else { 3 };
            let mut tail = path.trim_start_matches('/');
            for _ in 0..skip {
                tail = tail.split_once('/').map_or("", |(_, rest)| rest);
            }
            tail.to_owned()
        };
        info.resource_parts(&tail, method, query);
        info
    }

    fn resource_parts(&mut self, tail: &str, method: &Method, query: &Query) {
        let mut rest = tail;
        let next = |rest: &mut &str| -> Option<String> {
            let (part, after) = rest.split_once('/').unwrap_or((rest, ""));
            *rest = after;
            (!part.is_empty()).then(|| decode(part, false))
        };
        let mut first = next(&mut rest);
        self.verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let legacy_watch = first.as_deref() == Some("watch") && *method == Method::GET;
        if legacy_watch {
            first = next(&mut rest);
        }
        self.is_resource = first.is_some();
        let mut resource = first.unwrap_or_default();
        if resource == "namespaces" {
            let name = next(&mut rest).unwrap_or_default();
            let second = rest.split('/').next().unwrap_or_default();
            if !name.is_empty() && !second.is_empty() && !is_namespace_subresource(second) {
                self.namespace = name;
                resource = next(&mut rest).unwrap_or_default();
                self.name = next(&mut rest).unwrap_or_default();
            } else {
                self.namespace.clone_from(&name);
                self.name = name;
            }
        } else {
            self.name = next(&mut rest).unwrap_or_default();
        }
        self.resource = resource;
        self.subresource = next(&mut rest).unwrap_or_default();
        self.rest = rest.to_owned();
        if self.name.is_empty() && self.verb == "get" {
            self.verb = "list";
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection";
        }
        if legacy_watch || (self.verb == "list" && query.flag("watch")) {
            self.verb = "watch";
        }
        // A list or watch of one name is what authorization by name sees.
        if matches!(self.verb, "list" | "watch" | "deletecollection") && self.name.is_empty() {
            let selector = api::FieldSelector::parse(query.get("fieldSelector"));
            let terms = selector.map(|selector| selector.terms).unwrap_or_default();
            if let Some(term) = terms.iter().find(|t| t.path == "metadata.name" && t.equal) {
                self.name.clone_from(&term.value);
            }
        }
    }

    pub fn attributes(&self, query: &Query) -> Attributes {
        let listed = matches!(self.verb, "list" | "watch" | "deletecollection");
        let selector = listed.then(|| api::FieldSelector::parse(query.get("fieldSelector")).ok());
        Attributes {
            verb: self.verb.to_owned(),
            group: self.group.clone(),
            version: self.version.clone(),
            resource: if self.is_resource { self.resource.clone() } else { String::new() },
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            path: self.path.clone(),
            field_selector: selector.flatten(),
        }
    }
}

fn is_namespace_subresource(part: &str) -> bool {
    matches!(part, "status" | "finalize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, uri: &str) -> RequestInfo {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        RequestInfo::parse(&method, path, &Query::parse(query))
    }

    #[test]
    fn paths() {
        for (method, uri, want) in [
            ("GET", "/api/v1/pods", "list  v1  pods  "),
            ("GET", "/api/v1/pods?watch=true", "watch  v1  pods  "),
            ("GET", "/api/v1/pods?watch=0", "list  v1  pods  "),
            ("GET", "/api/v1/watch/namespaces/a/pods/p", "watch  v1 a pods p "),
            ("GET", "/api/v1/namespaces/a/pods/p/log", "get  v1 a pods p log"),
            ("POST", "/apis/apps/v1/namespaces/a/deployments", "create apps v1 a deployments  "),
            ("GET", "/api/v1/namespaces/a", "get  v1 a namespaces a "),
            ("PUT", "/api/v1/namespaces/a/finalize", "update  v1 a namespaces a finalize"),
            ("DELETE", "/api/v1/namespaces/a/pods", "deletecollection  v1 a pods  "),
            ("GET", "/api/v1/nodes/n/proxy/x/y%20z", "get  v1  nodes n proxy"),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list  v1  pods x "),
        ] {
            let i = parse(method, uri);
            let got = format!(
                "{} {} {} {} {} {} {}",
                i.verb, i.group, i.version, i.namespace, i.resource, i.name, i.subresource
            );
            assert_eq!(got, want, "{uri}");
            assert!(i.is_resource);
        }
        assert_eq!(parse("GET", "/api/v1/nodes/n/proxy/x/y%20z").rest, "x/y%20z");
        for path in ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/a"] {
            assert!(!parse("GET", path).is_resource, "{path}");
        }
    }
}

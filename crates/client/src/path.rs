//! Where in the API an object or a collection is.
use api::{Key, Kind};
use std::borrow::Cow;

/// Group (empty for core), version and plural.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
}

impl Resource {
    pub const fn fixed(group: &'static str, version: &'static str, plural: &'static str) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            plural: Cow::Borrowed(plural),
        }
    }
    pub fn new(group: &str, version: &str, plural: &str) -> Self {
        Self {
            group: Cow::Owned(group.to_owned()),
            version: Cow::Owned(version.to_owned()),
            plural: Cow::Owned(plural.to_owned()),
        }
    }
    pub fn of<K: Kind>() -> Self {
        Self::fixed(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
    }
    /// The path of all objects, or of those in a namespace.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            path += "/namespaces/";
            escape(namespace, &mut path);
        }
        path + "/" + &self.plural
    }
    pub fn object(&self, key: &Key) -> String {
        let mut path = self.collection(Some(&key.namespace)) + "/";
        escape(&key.name, &mut path);
        path
    }
}

pub(crate) fn with_sub(path: String, subresource: Option<&str>) -> String {
    match subresource {
        Some(subresource) => path + "/" + subresource,
        None => path,
    }
}

/// Percent-encodes all but what RFC 3986 leaves unreserved.
fn escape(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[derive(Default)]
pub(crate) struct Query(String);

impl Query {
    /// Nothing for an empty value.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0 += name;
        self.0.push('=');
        escape(value, &mut self.0);
    }
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::k8s::api::{apps::v1::Deployment, core::v1::Node};

    #[test]
    fn paths() {
        let deployments = Resource::of::<Deployment>();
        assert_eq!(deployments.collection(None), "/apis/apps/v1/deployments");
        assert_eq!(
            deployments.object(&Key::new("a", "web")),
            "/apis/apps/v1/namespaces/a/deployments/web"
        );
        assert_eq!(
            Resource::of::<Node>().object(&Key::new("", "system:x/y")),
            "/api/v1/nodes/system%3Ax%2Fy"
        );
    }

    #[test]
    fn queries_are_escaped() {
        let mut query = Query::default();
        query.text("labelSelector", "a in (b,c)");
        query.text("limit", "");
        query.text("continue", "x=");
        assert_eq!(query.finish(), "?labelSelector=a%20in%20%28b%2Cc%29&continue=x%3D");
    }
}

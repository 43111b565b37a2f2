//! Where a proxied page's links lead: those to the target itself are kept behind the proxy
//! (upstream's `proxy.Transport`).
use std::borrow::Cow;

/// Attributes that are links, by the tag they are on.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// What is between such a tag and its end is text, whatever it looks like.
const RAW: &[&str] = &[
    "iframe",
    "noembed",
    "noframes",
    "noscript",
    "plaintext",
    "script",
    "style",
    "textarea",
    "title",
    "xmp",
];

/// A longer tag passes as it is.
const TAG_MAX_BYTES: usize = 8 << 10;

/// How a link of the target's is written for clients of the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    /// What clients see in front of the target's own paths.
    pub prefix: String,
    /// The target's host and port.
    pub target: String,
    /// The host that the client asked for.
    pub asked: String,
}

impl Links {
    /// `None` if it leads elsewhere or is right as it is.
    pub(crate) fn mend(&self, link: &str) -> Option<String> {
        let (origin, rest) = split_origin(link)?;
        let host = origin.rsplit("//").next().unwrap_or_default();
        if !(host.is_empty() || host == self.target || host == self.asked) {
            return None;
        }
        let end = rest.find(['?', '#']).unwrap_or(rest.len());
        let (path, tail) = rest.split_at(end);
        if !path.starts_with('/') {
            return None;
        }
        let kept = if host == self.asked { origin } else { "" };
        let path = match path.starts_with(&self.prefix) {
            true => Cow::Borrowed(path),
            false => Cow::Owned(join(&self.prefix, path)),
        };
        let mended = format!("{kept}{path}{tail}");
        (mended != link).then_some(mended)
    }
}

/// `scheme://host` or `//host`, as far as it is there, and what follows.
fn split_origin(link: &str) -> Option<(&str, &str)> {
    let start = match link.find("//") {
        Some(0) => 2,
        // A colon before any slash ends a scheme.
        Some(at) if link[..at].ends_with(':') && !link[..at].contains(['/', '?', '#']) => at + 2,
        _ => {
            let scheme = link.find(':').is_some_and(|at| !link[..at].contains(['/', '?', '#']));
            return (!scheme).then_some(("", link));
        }
    };
    let end = link[start..].find(['/', '?', '#']).map_or(link.len(), |at| start + at);
    Some(link.split_at(end))
}

/// The two as one path without `.`, `..` and empty parts.
fn join(prefix: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in prefix.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let slash = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{slash}", parts.join("/"))
}

/// Mends the links of a page as it comes by.
pub(crate) struct Page {
    links: Links,
    /// What may be the beginning of a tag or of the end of raw text.
    pending: Vec<u8>,
    within: Within,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Within {
    Text,
    Comment,
    /// Of the tag with that name.
    Raw(&'static str),
}

impl Page {
    pub(crate) fn new(links: Links) -> Self {
        Self { links, pending: Vec::new(), within: Within::Text }
    }

    /// The page's next part; returns what can be passed on.
    pub(crate) fn feed(&mut self, part: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.pending);
        input.extend_from_slice(part);
        let mut out = Vec::with_capacity(input.len() + self.links.prefix.len());
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let Some(length) = self.step(rest, &mut out) else { break };
            rest = &rest[length..];
        }
        self.pending = rest.to_vec();
        out
    }

    /// What is left at the end of the page.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Passes on some of it and tells how much; `None` if more must come first.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        match &self.within {
            Within::Comment => return self.until(rest, b"-->", out),
            Within::Raw(name) => {
                let end = format!("</{name}");
                return self.until(rest, end.as_bytes(), out);
            }
            Within::Text => {}
        }
        let start = find(rest, b"<").unwrap_or(rest.len());
        if start > 0 {
            out.extend_from_slice(&rest[..start]);
            return Some(start);
        }
        if rest.starts_with(b"<!--") {
            self.within = Within::Comment;
            out.extend_from_slice(b"<!--");
            return Some(4);
        }
        let opens = rest.get(1)?.is_ascii_alphabetic();
        let maybe_comment = b"<!--".starts_with(rest);
        if opens {
            match tag_length(rest) {
                Some(length) => {
                    self.tag(&rest[..length], out);
                    return Some(length);
                }
                None if rest.len() <= TAG_MAX_BYTES => return None,
                None => {}
            }
        } else if maybe_comment {
            return None;
        }
        out.push(b'<');
        Some(1)
    }

    fn until(&mut self, rest: &[u8], end: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let length = match find(rest, end) {
            Some(at) => {
                self.within = Within::Text;
                at + end.len()
            }
            None => rest.len().saturating_sub(end.len() - 1),
        };
        out.extend_from_slice(&rest[..length]);
        (length > 0).then_some(length)
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let end = tag[1..].iter().position(|b| ends_name(*b)).map_or(tag.len(), |at| at + 1);
        let same = |name: &str| tag[1..end].eq_ignore_ascii_case(name.as_bytes());
        if let Some(raw) = RAW.iter().find(|name| same(name)) {
            self.within = Within::Raw(raw);
        }
        let Some((_, wanted)) = LINKS.iter().find(|(name, _)| same(name)) else {
            return out.extend_from_slice(tag);
        };
        let mut copied = 0;
        for attribute in attributes(tag, end) {
            let name = &tag[attribute.name.clone()];
            if !wanted.iter().any(|want| name.eq_ignore_ascii_case(want.as_bytes())) {
                continue;
            }
            let value = std::str::from_utf8(&tag[attribute.value.clone()]).unwrap_or_default();
            if let Some(mended) = self.links.mend(value) {
                out.extend_from_slice(&tag[copied..attribute.value.start]);
                out.extend_from_slice(mended.as_bytes());
                copied = attribute.value.end;
            }
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

/// Where an attribute's name and value are in its tag.
struct Attribute {
    name: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
}

fn attributes(tag: &[u8], start: usize) -> Vec<Attribute> {
    let mut found = Vec::new();
    let mut at = start;
    let skip = |at: usize, test: fn(u8) -> bool| {
        tag[at..].iter().position(|b| !test(*b)).map_or(tag.len(), |more| at + more)
    };
    while at < tag.len() {
        at = skip(at, |b| b.is_ascii_whitespace() || b == b'/');
        let name = at..skip(at, |b| !ends_name(b) && b != b'=');
        at = skip(name.end, |b| b.is_ascii_whitespace());
        if tag.get(at) != Some(&b'=') {
            at = at.max(name.end + usize::from(name.is_empty()));
            continue;
        }
        at = skip(at + 1, |b| b.is_ascii_whitespace());
        let value = match tag.get(at) {
            Some(quote @ (b'"' | b'\'')) => {
                let end = tag[at + 1..].iter().position(|b| b == quote);
                at + 1..end.map_or(tag.len(), |end| at + 1 + end)
            }
            _ => at..skip(at, |b| !b.is_ascii_whitespace() && b != b'>'),
        };
        at = (value.end + 1).min(tag.len());
        found.push(Attribute { name, value });
    }
    found
}

fn ends_name(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>')
}

/// With its `>`, which a value in quotes does not end.
fn tag_length(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut before = b' ';
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == *byte => quote = None,
            (Some(_), _) => {}
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') if before == b'=' => quote = Some(*byte),
            _ => {}
        }
        if !byte.is_ascii_whitespace() {
            before = *byte;
        }
    }
    None
}

/// Without regard to the case of letters.
fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window.eq_ignore_ascii_case(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/api/v1/namespaces/a/pods/p/proxy".to_owned(),
            target: "10.244.0.5:80".to_owned(),
            asked: "localhost:8001".to_owned(),
        }
    }

    #[test]
    fn links_to_the_target_stay_behind_the_proxy() {
        let p = "/api/v1/namespaces/a/pods/p/proxy";
        for (link, want) in [
            ("/x", Some(format!("{p}/x"))),
            ("/", Some(format!("{p}/"))),
            ("/x/../y//z/?q=/a#b", Some(format!("{p}/y/z/?q=/a#b"))),
            ("http://10.244.0.5:80/x", Some(format!("{p}/x"))),
            ("//10.244.0.5:80/x", Some(format!("{p}/x"))),
            ("https://localhost:8001/x", Some(format!("https://localhost:8001{p}/x"))),
            (&format!("{p}/x"), None),
            (&format!("http://10.244.0.5:80{p}/x"), Some(format!("{p}/x"))),
            ("x/y", None),
            ("", None),
            ("?q", None),
            ("http://10.244.0.5:80", None),
            ("http://example.test/x", None),
            ("//example.test/x", None),
            ("mailto:a@b", None),
            ("data:,//10.244.0.5:80/x", None),
        ] {
            assert_eq!(links().mend(link), want, "{link}");
        }
    }

    const PAGES: &[(&str, &str)] = &[
        (r#"<a href="/x">/x</a>"#, r#"<a href="~/x">/x</a>"#),
        ("<A\nclass=b HREF = '/x' id=c>", "<A\nclass=b HREF = '~/x' id=c>"),
        ("<img src=/a.png/><img src=/b>", "<img src=~/a.png/><img src=~/b>"),
        ("<form action=/x method=\"post\">", "<form action=~/x method=\"post\">"),
        (r#"<a title="a > b" href="/x">"#, r#"<a title="a > b" href="~/x">"#),
        (r#"<a title=">'" href='/x?a="b"'>"#, r#"<a title=">'" href='~/x?a="b"'>"#),
        (r#"<p href="/x">"#, r#"<p href="/x">"#),
        (r#"<a data-href="/x" href>"#, r#"<a data-href="/x" href>"#),
        (r#"<!-- <a href="/x"> --><a href="/y">"#, r#"<!-- <a href="/x"> --><a href="~/y">"#),
        (
            r#"<script src="/x">"<a href='/y'>"</SCRIPT><a href="/z">"#,
            r#"<script src="~/x">"<a href='/y'>"</SCRIPT><a href="~/z">"#,
        ),
        ("1 < 2 <<a href=\"/x\">", "1 < 2 <<a href=\"~/x\">"),
        ("<!doctype html><html><a href=/x>", "<!doctype html><html><a href=~/x>"),
        ("<a = / href=/x>", "<a = / href=~/x>"),
        ("<a href=\"/x", "<a href=\"/x"),
        ("<!-", "<!-"),
    ];

    #[test]
    fn pages_are_mended_however_they_are_cut() {
        for (page, want) in PAGES {
            let want = want.replace('~', &links().prefix);
            for size in 1..=page.len() {
                let mut mended = Page::new(links());
                let mut out: Vec<u8> =
                    page.as_bytes().chunks(size).flat_map(|part| mended.feed(part)).collect();
                out.extend(mended.finish());
                assert_eq!(String::from_utf8(out).unwrap(), want, "{page} by {size}");
            }
        }
    }

    #[test]
    fn what_never_ends_is_not_kept() {
        let mut page = Page::new(links());
        let mut passed = page.feed(b"<a title=\"").len();
        for _ in 0..200 {
            passed += page.feed(&[b'x'; 1024]).len();
            assert!(page.pending.len() <= TAG_MAX_BYTES);
        }
        assert!(passed > 100 * 1024);
    }
}

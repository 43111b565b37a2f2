//! Rules for names and other short texts, each answering with upstream's error texts (or nothing).
use std::net::IpAddr;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start \
                         and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                         '123-abc', regex used for validation is \
                         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

type Texts = Vec<String>;

fn max_chars(text: &str, max: usize, out: &mut Texts) {
    if text.len() > max {
        out.push(format!("must be no more than {max} characters"));
    }
}

/// A prefix that something will be added to may end in a dash.
fn mask(name: &str, prefix: bool) -> String {
    match name.strip_suffix('-') {
        Some(rest) if prefix && !rest.is_empty() => {
            let mut kept: Vec<char> = rest.chars().collect();
            kept.pop();
            kept.into_iter().chain(['a']).collect()
        }
        _ => name.to_owned(),
    }
}

fn is_label_text(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(ok) && !text.starts_with('-') && !text.ends_with('-')
}

/// RFC 1123 subdomain, as most names are.
pub fn subdomain(name: &str, prefix: bool) -> Texts {
    let (name, mut out) = (mask(name, prefix), Texts::new());
    max_chars(&name, 253, &mut out);
    if !name.split('.').all(is_label_text) {
        out.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
        ));
    }
    out
}

/// As [`subdomain`], with underscores let in.
pub fn subdomain_with_underscore(name: &str) -> Texts {
    const PART: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut out = Texts::new();
    max_chars(name, 253, &mut out);
    let part = |text: &str| {
        let text = text.strip_prefix('_').unwrap_or(text);
        is_label_text(&text.replace('_', "-"))
    };
    if !name.split('.').all(part) {
        out.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
             '_', '-' or '.', and must start and end with an alphanumeric character (e.g. \
             'example.com', regex used for validation is '{PART}(\\.{PART})*')"
        ));
    }
    out
}

/// RFC 1123 label.
pub fn label(name: &str, prefix: bool) -> Texts {
    let (name, mut out) = (mask(name, prefix), Texts::new());
    max_chars(&name, 63, &mut out);
    if !is_label_text(&name) {
        if name.split('.').all(is_label_text) {
            out.push("must not contain dots".to_owned());
        } else {
            out.push(format!(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or \
                 '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
                 '123-abc', regex used for validation is '{LABEL}')"
            ));
        }
    }
    out
}

/// RFC 1035 label: as a label, but starts with a letter.
pub fn label_1035(name: &str, prefix: bool) -> Texts {
    let (name, mut out) = (mask(name, prefix), Texts::new());
    max_chars(&name, 63, &mut out);
    if !is_label_text(&name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character (e.g. \
             'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    out
}

/// `*.` and a subdomain.
pub fn wildcard_subdomain(name: &str) -> Texts {
    let mut out = Texts::new();
    max_chars(name, 253, &mut out);
    if !name.strip_prefix("*.").is_some_and(|rest| rest.split('.').all(is_label_text)) {
        out.push(format!(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS \
             subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and \
             end with an alphanumeric character (e.g. '*.example.com', regex used for validation \
             is '\\*\\.{LABEL}(\\.{LABEL})*')"
        ));
    }
    out
}

/// A segment of a path: what RBAC's names and a few others are held to.
pub fn path_segment(name: &str, prefix: bool) -> Texts {
    if !prefix && (name == "." || name == "..") {
        return vec![format!("may not be '{name}'")];
    }
    let bad = ["/", "%"].into_iter().filter(|bad| name.contains(bad));
    bad.map(|bad| format!("may not contain '{bad}'")).collect()
}

fn is_qualified_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.iter().copied().all(inner) && end(bytes.first()) && end(bytes.last())
}

/// A label key: optional DNS prefix, `/`, name.
pub fn qualified(text: &str) -> Texts {
    let mut out = Texts::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                let bytes = |text: String| text.replace("253 characters", "253 bytes");
                let texts = subdomain(prefix, false).into_iter().map(bytes);
                out.extend(texts.map(|text| format!("prefix part {text}")));
            }
            name
        }
        _ => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' \
                 (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_qualified_text(name) {
        out.push(format!("name part {QUALIFIED}"));
    }
    out
}

pub fn label_value(text: &str) -> Texts {
    let mut out = Texts::new();
    if text.len() > 63 {
        out.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !is_qualified_text(text) {
        out.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', \
             '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  \
             or 'my_value',  or '12345', regex used for validation is \
             '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    out
}

fn no_parent_prefix(text: &str, out: &mut Texts) {
    match text {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
}

/// A key of a config map or a secret.
pub fn config_key(text: &str) -> Texts {
    let mut out = Texts::new();
    max_chars(text, 253, &mut out);
    let ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || !text.bytes().all(ok) {
        out.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
             'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    no_parent_prefix(text, &mut out);
    out
}

/// The name of an environment variable (KEP-4369: any printable ASCII but `=`).
pub fn env_name(text: &str) -> Texts {
    let mut out = Texts::new();
    if text.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        out.push(
            "a valid environment variable name must consist only of printable ASCII characters \
             other than '='"
                .to_owned(),
        );
    }
    out
}

pub fn port_name(text: &str) -> Texts {
    let mut out = Texts::new();
    max_chars(text, 15, &mut out);
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.is_empty() || !text.bytes().all(ok) {
        let why = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";
        out.push(why.to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

pub fn http_header(text: &str) -> Texts {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Texts::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. \
         'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

pub fn percent(text: &str) -> Texts {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Texts::new();
    }
    vec![
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  \
         or '93%', regex used for validation is '[0-9]+%')"
            .to_owned(),
    ]
}

pub fn c_identifier(text: &str) -> Texts {
    let head = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if head && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Texts::new();
    }
    vec![
        "a valid C identifier must start with alphabetic character or '_', followed by a string \
         of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex \
         used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
            .to_owned(),
    ]
}

pub fn in_range(value: i64, low: i64, high: i64) -> Texts {
    if (low..=high).contains(&value) {
        return Texts::new();
    }
    vec![format!("must be between {low} and {high}, inclusive")]
}

pub fn port_number(value: i64) -> Texts {
    in_range(value, 1, 65535)
}

pub fn non_negative(value: i64) -> Texts {
    if value >= 0 {
        return Texts::new();
    }
    vec!["must be greater than or equal to 0".to_owned()]
}

pub fn ip(text: &str) -> Texts {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".to_owned()]
        }
        Ok(_) => Texts::new(),
        Err(_) => {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            vec![why.to_owned()]
        }
    }
}

/// Splits `10.0.0.0/8` into address and prefix length.
pub fn parse_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits = bits.parse::<u8>().ok().filter(|_| digits)?;
    (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, bits))
}

/// The address with its host bits cleared.
pub fn network_of(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

pub fn cidr(text: &str) -> Texts {
    if parse_cidr(text).is_some() {
        return Texts::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        type Rule = fn(&str) -> Texts;
        let table: &[(Rule, &[&str], &[&str])] = &[
            (|n| subdomain(n, false), &["a", "a.b-c.d", "0"], &["", "A", "-a", "a.", "a..b"]),
            (|n| subdomain(n, true), &["a-", "web-x-"], &["-", "A-x-"]),
            (|n| label(n, false), &["a", "1-a"], &["a.b", "", "a-", "a_b"]),
            (|n| label_1035(n, false), &["a1"], &["1a", "", "a-"]),
            (qualified, &["a", "x.y/B_c.d"], &["", "/a", "a/b/c", "A/b", "-a", "a/"]),
            (label_value, &["", "a", "A.b_c-d"], &["-a", "a-", "a b"]),
            (config_key, &["a.b_C-d", ".a"], &["", "..", "..a", ".", "a/b"]),
            (env_name, &["A", "a b", "1"], &["", "a=b", "ä"]),
            (port_name, &["http", "a-1"], &["", "1", "a--b", "-a", "HTTP", "sixteen-letters-x"]),
            (percent, &["0%", "120%"], &["%", "1", "-1%", "1.5%"]),
            (ip, &["10.0.0.1", "::1"], &["", "10.0.0", "010.0.0.1", "::ffff:1.2.3.4"]),
            (cidr, &["10.0.0.0/8", "::/0"], &["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/+8"]),
            (wildcard_subdomain, &["*.a.b"], &["*", "a.b", "*.*.b"]),
            (c_identifier, &["_a1"], &["1a", ""]),
        ];
        for (at, (rule, good, bad)) in table.iter().enumerate() {
            for name in *good {
                assert_eq!(rule(name), Texts::new(), "rule {at}: {name}");
            }
            for name in *bad {
                assert_ne!(rule(name), Texts::new(), "rule {at}: {name}");
            }
        }
    }

    #[test]
    fn networks() {
        let (address, bits) = parse_cidr("10.1.2.3/8").unwrap();
        assert_eq!(network_of(address, bits).to_string(), "10.0.0.0");
        assert_eq!(network_of("10.1.2.3".parse().unwrap(), 0).to_string(), "0.0.0.0");
        assert_eq!(network_of("fe80::1".parse().unwrap(), 64).to_string(), "fe80::");
    }
}

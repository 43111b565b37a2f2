//! What encoding a client wants its answer in.
use api::ApiError;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What the object is turned into first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Object,
    Table,
    /// `PartialObjectMetadata`, or its list.
    Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub encoding: Encoding,
    pub form: Form,
    /// The version of `meta.k8s.io` of a table or of metadata.
    pub meta_version: &'static str,
}

impl Wanted {
    pub(crate) const JSON: Self =
        Self { encoding: Encoding::Json, form: Form::Object, meta_version: "v1" };

    pub(crate) fn content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
    pub(crate) fn watch_content_type(&self) -> &'static str {
        match self.encoding {
            Encoding::Json => "application/json",
            Encoding::Yaml => "application/yaml;stream=watch",
            Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }
}

/// What can be asked for at a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offer {
    pub protobuf: bool,
    pub yaml: bool,
    /// Tables and metadata.
    pub forms: bool,
}

/// The first of the client's wishes, by quality, that can be met.
pub(crate) fn negotiate(accept: &str, offer: Offer) -> Result<Wanted, ApiError> {
    let mut wishes: Vec<(f32, &str)> = accept
        .split(',')
        .map(str::trim)
        .filter(|wish| !wish.is_empty())
        .map(|wish| (quality(wish), wish))
        .collect();
    if wishes.is_empty() {
        return Ok(Wanted::JSON);
    }
    wishes.sort_by(|a, b| b.0.total_cmp(&a.0));
    wishes.iter().find_map(|(_, wish)| meet(wish, offer)).ok_or_else(|| {
        let mut accepted = vec!["application/json"];
        if offer.yaml {
            accepted.push("application/yaml");
        }
        if offer.protobuf {
            accepted.push("application/vnd.kubernetes.protobuf");
        }
        ApiError::not_acceptable(format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        ))
    })
}

fn quality(wish: &str) -> f32 {
    let parts = wish.split(';').map(str::trim);
    parts.filter_map(|part| part.strip_prefix("q=")?.parse().ok()).next().unwrap_or(1.0)
}

fn meet(wish: &str, offer: Offer) -> Option<Wanted> {
    let mut parts = wish.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "*/*" | "application/*" | "application/json" => Encoding::Json,
        "application/yaml" if offer.yaml => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
        _ => return None,
    };
    let encodes = |form| {
        // Metadata is of a built-in type whatever it is about.
        encoding != Encoding::Protobuf || offer.protobuf || form == Form::Metadata
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let form = match kind {
        "" => {
            let wanted = Wanted { encoding, form: Form::Object, meta_version: "v1" };
            return encodes(Form::Object).then_some(wanted);
        }
        "Table" if offer.forms => Form::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if offer.forms => Form::Metadata,
        _ => return None,
    };
    let meta_version = match (group, version) {
        ("meta.k8s.io", "v1") => "v1",
        ("meta.k8s.io", "v1beta1") => "v1beta1",
        _ => return None,
    };
    // Tables hold objects of any kind inside: JSON only, as their cells are.
    let protobuf_table = form == Form::Table && encoding == Encoding::Protobuf;
    (!protobuf_table && encodes(form)).then_some(Wanted { encoding, form, meta_version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picks_what_it_can() {
        let offer = Offer { protobuf: false, yaml: false, forms: true };
        let pick = |accept: &str| negotiate(accept, offer).ok().map(|w| (w.encoding, w.form));
        let json = Some((Encoding::Json, Form::Object));
        assert_eq!(pick(""), json);
        assert_eq!(pick("application/vnd.kubernetes.protobuf,application/json"), json);
        assert_eq!(pick("text/html, */*;q=0.1"), json);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(pick(table), Some((Encoding::Json, Form::Table)));
        assert_eq!(pick("application/json;as=Other;v=v1;g=meta.k8s.io,application/json"), json);
        assert_eq!(pick("application/cbor"), None);
    }
}

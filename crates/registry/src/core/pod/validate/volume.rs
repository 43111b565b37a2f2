//! Checks of volumes.
use super::container::{field_ref, resource_field_ref};
use super::{descending_path, no_backsteps};
use crate::{At, names, quantities};
use api::{FieldError, FieldErrors};

/// Sources whose fields are checked only for being there.
const PLAIN: &[(&str, &[&str])] = &[
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("flocker", &[]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["registry", "volume"]),
    ("fc", &[]),
    ("flexVolume", &["driver"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("storageos", &["volumeName"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("csi", &["driver"]),
];

/// Of a volume and of a persistent volume; says whether there is a source at all.
pub(crate) fn plain_sources(holder: &At, mut found: bool, errors: &mut FieldErrors) -> bool {
    for (name, fields) in PLAIN {
        let source = holder.get(name);
        if !source.is_set() {
            continue;
        }
        if found {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found = true;
        for field in *fields {
            source.get(field).must("", errors);
        }
        let path = source.get("path");
        if *name == "nfs" && !path.is_empty() && !path.text().starts_with('/') {
            errors.push(path.invalid("must be an absolute path"));
        }
    }
    found
}

/// The good ones are given back: what is mounted must be among them.
pub(super) fn volumes<'a>(volumes: &At<'a>, errors: &mut FieldErrors) -> Vec<At<'a>> {
    let mut good: Vec<At> = Vec::new();
    for volume in volumes.items() {
        let mut own = FieldErrors::new();
        source(&volume, &mut own);
        let name = volume.get("name");
        name.named(|text| names::label(text, false), &mut own);
        if good.iter().any(|other| other.get("name").text() == name.text()) {
            own.push(name.duplicate());
        }
        if own.is_empty() {
            good.push(volume);
        }
        errors.append(&mut own);
    }
    good
}

fn source(volume: &At, errors: &mut FieldErrors) {
    let mut found = false;
    let empty = volume.get("emptyDir");
    if empty.is_set() {
        found = true;
        let size = empty.get("sizeLimit");
        if quantities::parse(size.value).is_some_and(|size| size.sign() < 0) {
            errors.push(size.forbidden("SizeLimit field must be a valid resource quantity"));
        }
    }
    type Check = fn(&At, &mut FieldErrors);
    let checked: [(&str, Check); 7] = [
        ("hostPath", host_path),
        ("secret", |at, errors| keyed(at, "secretName", errors)),
        ("configMap", |at, errors| keyed(at, "name", errors)),
        ("downwardAPI", downward_api),
        ("projected", projected),
        ("ephemeral", ephemeral),
        ("image", image),
    ];
    for (name, check) in checked {
        let source = volume.get(name);
        if !source.is_set() {
            continue;
        }
        if found {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
        } else {
            found = true;
            check(&source, errors);
        }
    }
    if !plain_sources(volume, found, errors) {
        errors.push(volume.required("must specify a volume type"));
    }
}

pub(crate) fn host_path(source: &At, errors: &mut FieldErrors) {
    let path = source.get("path");
    if !path.must("", errors) {
        return;
    }
    no_backsteps(&path, path.text(), errors);
    let types = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    source.get("type").one_of(&types, false, errors);
}

fn mode(at: &At, errors: &mut FieldErrors) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(at.invalid(why));
    }
}

/// A path below the volume that does not look like one of the node's own.
fn local_path(path: &At, errors: &mut FieldErrors) {
    descending_path(path, path.text(), errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") {
        errors.push(path.invalid("must not start with '..'"));
    }
}

fn key_to_path(item: &At, errors: &mut FieldErrors) {
    item.get("key").must("", errors);
    item.get("path").must("", errors);
    local_path(&item.get("path"), errors);
    mode(&item.get("mode"), errors);
}

fn keyed(source: &At, name: &str, errors: &mut FieldErrors) {
    source.get(name).must("", errors);
    mode(&source.get("defaultMode"), errors);
    for item in source.get("items").items() {
        key_to_path(&item, errors);
    }
}

const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

fn downward_item(item: &At, errors: &mut FieldErrors) {
    item.get("path").must("", errors);
    local_path(&item.get("path"), errors);
    match (item.has("fieldRef"), item.has("resourceFieldRef")) {
        (true, both) => {
            field_ref(&item.get("fieldRef"), VOLUME_FIELDS, errors);
            if both {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(item.path.clone(), "resource", why));
            }
        }
        (false, true) => resource_field_ref(&item.get("resourceFieldRef"), true, errors),
        (false, false) => {
            errors.push(item.required("one of fieldRef and resourceFieldRef is required"));
        }
    }
    mode(&item.get("mode"), errors);
}

fn downward_api(source: &At, errors: &mut FieldErrors) {
    mode(&source.get("defaultMode"), errors);
    for item in source.get("items").items() {
        let whole = At::new(item.value, source.path.clone());
        downward_item(&whole, errors);
    }
}

fn projected(source: &At, errors: &mut FieldErrors) {
    mode(&source.get("defaultMode"), errors);
    let mut paths: Vec<String> = Vec::new();
    let mut claim = |path: &str, shown: &str, errors: &mut FieldErrors| {
        if path.is_empty() {
            return;
        }
        if paths.iter().any(|other| other == path) {
            let why = "conflicting duplicate paths";
            errors.push(FieldError::invalid(source.path.clone(), shown, why));
        } else {
            paths.push(path.to_owned());
        }
    };
    for part in source.get("sources").items() {
        let mut sources = 0;
        for kind in ["secret", "configMap"] {
            let keyed = part.get(kind);
            if !keyed.is_set() {
                continue;
            }
            sources += 1;
            keyed.get("name").must("", errors);
            for item in keyed.get("items").items() {
                key_to_path(&item, errors);
                claim(item.get("path").text(), keyed.get("name").text(), errors);
            }
        }
        let downward = part.get("downwardAPI");
        if downward.is_set() {
            sources += 1;
            for item in downward.get("items").items() {
                downward_item(&At::new(item.value, downward.path.clone()), errors);
                claim(item.get("path").text(), item.get("path").text(), errors);
            }
        }
        for kind in ["serviceAccountToken", "clusterTrustBundle", "podCertificate"] {
            sources += i32::from(part.has(kind));
        }
        token(&part.get("serviceAccountToken"), source, errors);
        trust_bundle(&part.get("clusterTrustBundle"), errors);
        certificate(&part.get("podCertificate"), errors);
        if sources > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(part.forbidden(why));
        }
    }
}

fn token(token: &At, projected: &At, errors: &mut FieldErrors) {
    if !token.is_set() {
        return;
    }
    let seconds = token.get("expirationSeconds");
    match seconds.int() {
        None => errors.push(seconds.required("")),
        Some(value) if value < 600 => {
            errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        Some(value) if value > 1 << 32 => {
            errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
        Some(_) => {}
    }
    let path = At::new(token.get("path").value, projected.child("path"));
    if path.must("", errors) {
        local_path(&path, errors);
    }
}

fn trust_bundle(bundle: &At, errors: &mut FieldErrors) {
    if !bundle.is_set() {
        return;
    }
    match (bundle.has("name"), bundle.has("signerName")) {
        (true, true) => {
            errors.push(bundle.invalid("only one of name and signerName may be used"));
        }
        (false, false) => {
            errors.push(bundle.required("either name or signerName must be specified"));
        }
        _ => {}
    }
    crate::selectors::validate(&bundle.get("labelSelector"), errors);
    if bundle.get("path").must("", errors) {
        local_path(&bundle.get("path"), errors);
    }
}

fn certificate(certificate: &At, errors: &mut FieldErrors) {
    if !certificate.is_set() {
        return;
    }
    certificate.get("signerName").must("", errors);
    let kinds = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    certificate.get("keyType").one_of(&kinds, true, errors);
    let life = certificate.get("maxExpirationSeconds");
    if let Some(seconds) = life.int() {
        let (least, most) = (3600, 91 * 24 * 3600);
        if seconds < least {
            errors.push(
                life.invalid(format!("if provided, maxExpirationSeconds must be >= {least}")),
            );
        } else if seconds > most {
            errors
                .push(life.invalid(format!("if provided, maxExpirationSeconds must be <= {most}")));
        }
    }
    let paths = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if paths.iter().all(|path| certificate.get(path).is_empty()) {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(certificate.required(why));
    }
    for path in paths {
        local_path(&certificate.get(path), errors);
    }
}

fn ephemeral(source: &At, errors: &mut FieldErrors) {
    let template = source.get("volumeClaimTemplate");
    if template.must("", errors) {
        crate::core::persistent_volume_claim::claim_spec(&template.get("spec"), errors);
    }
}

fn image(source: &At, errors: &mut FieldErrors) {
    source.get("reference").must("", errors);
    let policies = ["Always", "IfNotPresent", "Never"];
    source.get("pullPolicy").one_of(&policies, true, errors);
}

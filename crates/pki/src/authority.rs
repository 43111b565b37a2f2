//! A certificate authority: made, loaded, and asked for certificates.
use crate::{Error, files};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, X509Certificate};

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Clocks of nodes differ a little.
const BACKDATE: Duration = Duration::from_secs(300);
/// A certificate is made anew when it has less than this to live.
const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a certificate is for.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub server: bool,
    pub client: bool,
    /// One year unless told.
    pub life: Option<Duration>,
}

impl Profile {
    pub fn client(common_name: &str, organizations: &[&str]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organizations: organizations.iter().map(|o| (*o).to_owned()).collect(),
            client: true,
            ..Self::default()
        }
    }
    pub fn server(common_name: &str, dns_names: &[&str], addresses: &[IpAddr]) -> Self {
        Self {
            common_name: common_name.to_owned(),
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            addresses: addresses.to_vec(),
            server: true,
            ..Self::default()
        }
    }
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
}

/// What a signing request asks for, its own signature checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsrFacts {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

pub struct Authority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("certificate", &self.cert_pem).finish_non_exhaustive()
    }
}

impl Authority {
    pub fn load_or_create(crt: &Path, key: &Path) -> Result<Self, Error> {
        if let (Some(cert_pem), Some(key_pem)) = (files::read_pem(crt)?, files::read_pem(key)?) {
            return Self::from_pem(cert_pem, &key_pem)
                .map_err(|error| Error::Content { path: crt.to_owned(), why: error.to_string() });
        }
        let pair = KeyPair::generate().map_err(refused)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name_of("kybern-ca", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        live(&mut params, CA_LIFE);
        let cert = params.self_signed(&pair).map_err(refused)?;
        let (cert_pem, key_pem) = (cert.pem(), pair.serialize_pem());
        files::write_secret(key, key_pem.as_bytes())?;
        files::write_public(crt, cert_pem.as_bytes())?;
        Self::from_pem(cert_pem, &key_pem)
    }

    fn from_pem(cert_pem: String, key_pem: &str) -> Result<Self, Error> {
        let pair = KeyPair::from_pem(key_pem).map_err(refused)?;
        let issuer = Issuer::from_ca_cert_pem(&cert_pem, pair).map_err(refused)?;
        Ok(Self { cert_pem, issuer })
    }

    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// A new key and its certificate.
    pub fn issue(&self, profile: &Profile) -> Result<Issued, Error> {
        let pair = KeyPair::generate().map_err(refused)?;
        let params = params(profile)?;
        let cert = params.signed_by(&pair, &self.issuer).map_err(refused)?;
        Ok(Issued { cert_pem: cert.pem(), key_pem: pair.serialize_pem() })
    }

    /// A certificate for the key of a request, for exactly what `profile` says: names in the
    /// request count only through [`Authority::inspect`], after someone has judged them.
    pub fn sign_csr(&self, csr_pem: &str, profile: &Profile) -> Result<String, Error> {
        let request = parse_csr(csr_pem)?;
        let request = CertificateSigningRequestParams {
            params: params(profile)?,
            public_key: request.public_key,
        };
        Ok(request.signed_by(&self.issuer).map_err(refused)?.pem())
    }

    /// Reads a request and checks that whoever made it has the key.
    pub fn inspect(csr_pem: &str) -> Result<CsrFacts, Error> {
        let request = parse_csr(csr_pem)?;
        let mut facts = CsrFacts::default();
        let der = csr_der(csr_pem)?;
        let (_, parsed) =
            x509_parser::certification_request::X509CertificationRequest::from_der(&der)
                .map_err(|error| Error::Csr(error.to_string()))?;
        let subject = &parsed.certification_request_info.subject;
        let texts = |found: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            found.as_str().ok().map(str::to_owned)
        };
        facts.common_name = subject.iter_common_name().find_map(texts).unwrap_or_default();
        facts.organizations = subject.iter_organization().filter_map(texts).collect();
        for name in &request.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => facts.dns_names.push(name.to_string()),
                SanType::IpAddress(address) => facts.addresses.push(*address),
                SanType::Rfc822Name(name) => facts.emails.push(name.to_string()),
                SanType::URI(name) => facts.uris.push(name.to_string()),
                _ => return Err(Error::Csr("a subject alternative name of another type".into())),
            }
        }
        Ok(facts)
    }

    /// Whether the certificate is of this authority, for these names, and good for a while.
    pub(crate) fn still_good(&self, cert_pem: &str, profile: &Profile) -> bool {
        let (Ok(der), Ok(ca)) = (
            CertificateDer::from_pem_slice(cert_pem.as_bytes()),
            CertificateDer::from_pem_slice(self.cert_pem.as_bytes()),
        ) else {
            return false;
        };
        let (Ok((_, cert)), Ok((_, ca))) =
            (X509Certificate::from_der(&der), X509Certificate::from_der(&ca))
        else {
            return false;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wanted = i64::try_from((now + RENEW_BEFORE).as_secs()).unwrap_or(i64::MAX);
        let subject = cert.subject();
        let same_name =
            subject.iter_common_name().any(|cn| cn.as_str() == Ok(&profile.common_name));
        let mut names: Vec<String> = Vec::new();
        if let Ok(Some(extension)) = cert.subject_alternative_name() {
            for name in &extension.value.general_names {
                match name {
                    x509_parser::extensions::GeneralName::DNSName(name) => {
                        names.push((*name).to_owned());
                    }
                    x509_parser::extensions::GeneralName::IPAddress(bytes) => {
                        names.extend(address_text(bytes));
                    }
                    _ => {}
                }
            }
        }
        let all_there = profile.dns_names.iter().all(|name| names.contains(name))
            && profile.addresses.iter().all(|ip| names.contains(&ip.to_string()));
        let orgs: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
        cert.verify_signature(Some(ca.public_key())).is_ok()
            && cert.validity().not_after.timestamp() > wanted
            && same_name
            && all_there
            && orgs == profile.organizations
    }
}

fn address_text(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|sixteen| IpAddr::from(sixteen).to_string())
}

/// Each certificate of a PEM text by itself, without what stands between them.
pub fn certificates(pem: &str) -> Result<Vec<String>, Error> {
    let each = CertificateDer::pem_slice_iter(pem.as_bytes());
    let each = each.map(|cert| cert.map(|cert| certificate_pem(&cert)));
    each.collect::<Result<_, _>>().map_err(|error| Error::Certificate(error.to_string()))
}

/// A certificate, given in DER.
pub fn certificate_pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// A new key, in PEM, and a request for its certificate that names nobody, in DER: for signers who
/// know from elsewhere whom they sign for.
pub fn nameless_request(key_type: &str) -> Result<(String, Vec<u8>), Error> {
    let algorithm = match key_type {
        "ECDSAP256" => &rcgen::PKCS_ECDSA_P256_SHA256,
        "ECDSAP384" => &rcgen::PKCS_ECDSA_P384_SHA384,
        "ED25519" => &rcgen::PKCS_ED25519,
        other => {
            return Err(Error::Csr(format!(
                "keys of type {other} cannot be made here yet; use ECDSAP256, ECDSAP384 or ED25519"
            )));
        }
    };
    let pair = KeyPair::generate_for(algorithm).map_err(refused)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(refused)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&pair).map_err(refused)?;
    Ok((pair.serialize_pem(), request.der().to_vec()))
}

fn csr_der(csr_pem: &str) -> Result<Vec<u8>, Error> {
    rustls::pki_types::CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map(|der| der.as_ref().to_vec())
        .map_err(|error| Error::Csr(format!("{error:?}")))
}

/// rcgen checks the request's own signature while it parses.
fn parse_csr(csr_pem: &str) -> Result<CertificateSigningRequestParams, Error> {
    let der = csr_der(csr_pem)?;
    let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(&der)
        .map_err(|error| Error::Csr(error.to_string()))?;
    parsed.verify_signature().map_err(|_| Error::Csr("its signature does not match".into()))?;
    CertificateSigningRequestParams::from_pem(csr_pem)
        .map_err(|error| Error::Csr(error.to_string()))
}

fn params(profile: &Profile) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(profile.dns_names.clone()).map_err(refused)?;
    params.distinguished_name = name_of(&profile.common_name, &profile.organizations);
    params.subject_alt_names.extend(profile.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    if profile.server {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    if profile.client {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let mut serial = [0u8; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut serial)
        .map_err(|_| Error::Certificate("the system gives no random numbers".into()))?;
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    live(&mut params, profile.life.unwrap_or(DAY * 365));
    Ok(params)
}

fn live(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + life).into();
}

fn name_of(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for organization in organizations {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn refused(error: rcgen::Error) -> Error {
    Error::Certificate(error.to_string())
}

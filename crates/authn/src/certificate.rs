//! Client certificates: the common name is the user, organizations are the groups.
use api::User;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The user that a certificate names. That it is signed by the cluster's authority and still valid
/// has been checked by the TLS layer.
pub fn user_of_certificate(der: &[u8]) -> Option<User> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let subject = cert.subject();
    let name = subject.iter_common_name().find_map(|name| name.as_str().ok())?;
    if name.is_empty() {
        return None;
    }
    let groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    let mut user = User::new(name, &groups.collect::<Vec<_>>());
    user.groups.push(User::ALL_AUTHENTICATED.to_owned());
    Some(user)
}

//! Who is asking: client certificates, service-account tokens, bootstrap tokens, impersonation.
//!
//! Pure over [`Objects`] and a time; knows no HTTP beyond a header's text. A credential that is
//! there but wrong is an error, never anonymity.
mod bootstrap;
mod certificate;
mod impersonation;
mod service_account;

pub use certificate::user_of_certificate;
pub use impersonation::{Impersonation, impersonate};
pub use service_account::{Bound, TokenRequest, issue, issuer_claims};

use api::{Objects, User};
use pki::TokenKey;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the token is of no kind that is known here")]
    Unknown,
    #[error("{0}")]
    Token(pki::JwtError),
    #[error("{0}")]
    Refused(String),
}

/// What tokens are judged by.
pub struct Tokens<'a> {
    pub key: &'a TokenKey,
    pub issuer: &'a str,
    /// Those that the API server itself answers to.
    pub audiences: &'a [String],
    pub objects: &'a dyn Objects,
    /// Seconds since 1970.
    pub now: i64,
}

/// A token's owner, and those of the wanted audiences that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticated {
    pub user: User,
    pub audiences: Vec<String>,
}

impl Tokens<'_> {
    /// Judges a bearer token; no wanted audiences means the API server's.
    pub fn authenticate(&self, token: &str, wanted: &[String]) -> Result<Authenticated, Error> {
        let wanted = if wanted.is_empty() { self.audiences } else { wanted };
        let mut found = if token.matches('.').count() == 2 {
            service_account::authenticate(self, token, wanted)?
        } else {
            let user = bootstrap::authenticate(self.objects, token, self.now)?;
            Authenticated { user, audiences: self.audiences.to_vec() }
        };
        found.user.groups.push(User::ALL_AUTHENTICATED.to_owned());
        Ok(found)
    }
}

/// Compares secrets without telling by its time where they differ.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b)) == 0
}

#[cfg(test)]
mod tests;

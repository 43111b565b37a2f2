//! Service-account tokens: JSON web tokens signed with ES256.
use crate::{Error, files};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use std::path::Path;
use value::{Value, json};

/// Longer tokens are not looked at.
const MAX_TOKEN_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("not a token that this cluster signs")]
    Malformed,
    #[error("the token's signature does not match")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// The key that signs tokens and checks them.
pub struct TokenKey {
    pair: EcdsaKeyPair,
    public: Vec<u8>,
    key_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl TokenKey {
    pub fn load_or_create(path: &Path) -> Result<Self, Error> {
        let content = |why: String| Error::Content { path: path.to_owned(), why };
        let key = match files::read_pem(path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|error| content(error.to_string()))?,
            None => {
                let made =
                    KeyPair::generate().map_err(|error| Error::Certificate(error.to_string()))?;
                files::write_secret(path, made.serialize_pem().as_bytes())?;
                made
            }
        };
        Self::new(&key).map_err(content)
    }

    fn new(key: &KeyPair) -> Result<Self, String> {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &key.serialize_der(),
            &random,
        )
        .map_err(|error| error.to_string())?;
        let public = pair.public_key().as_ref().to_vec();
        let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
        Ok(Self { pair, public, key_id: B64.encode(digest), random })
    }

    /// Signs the claims.
    pub fn sign(&self, claims: &Value) -> Result<String, Error> {
        let header = json!({ "alg": "ES256", "kid": self.key_id, "typ": "JWT" });
        let mut token =
            format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&self.random, token.as_bytes())
            .map_err(|_| Error::Certificate("cannot sign a token".into()))?;
        token.push('.');
        token.push_str(&B64.encode(signature));
        Ok(token)
    }

    /// The claims of a token that this key has signed and that is valid at `now` (seconds since
    /// 1970).
    pub fn verify(&self, token: &str, now: i64) -> Result<Value, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(JwtError::Malformed)?;
        let part =
            |text: &str| -> Option<Value> { serde_json::from_slice(&B64.decode(text).ok()?).ok() };
        let header = part(header).ok_or(JwtError::Malformed)?;
        if header["alg"] != "ES256" {
            return Err(JwtError::Malformed);
        }
        let signature = B64.decode(signature).map_err(|_| JwtError::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| JwtError::Signature)?;
        let claims = part(claims).ok_or(JwtError::Malformed)?;
        if claims["exp"].as_i64().is_none_or(|end| end <= now) {
            return Err(JwtError::Expired);
        }
        if claims["nbf"].as_i64().is_some_and(|start| start > now + 60) {
            return Err(JwtError::NotYet);
        }
        Ok(claims)
    }

    /// The public key as a JSON web key set.
    pub fn jwks(&self) -> Value {
        let (x, y) = (&self.public[1..33], &self.public[33..65]);
        json!({ "keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": B64.encode(x), "y": B64.encode(y),
        }]})
    }
}

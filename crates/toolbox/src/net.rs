//! Servers and clients: plain sockets, own name resolution (the static binary has no other).
pub(crate) mod client;
pub(crate) mod echo;
pub(crate) mod lookup;
pub(crate) mod nc;
pub(crate) mod resolver;
pub(crate) mod serve;
mod wire;

#[cfg(test)]
mod tests;

//! Against a real etcd, as Debian packages it (`etcd-server`), started on loopback by each test.
#![allow(clippy::unwrap_used)]

mod etcd {
    mod contract;
    mod security;
    pub(crate) mod server;
}

//! What the node's packet rules should be, as a pure function of the Services and their endpoints.
//!
//! Knows no kernel, no clock and no client: the `net` crate makes a kernel of what is planned here.

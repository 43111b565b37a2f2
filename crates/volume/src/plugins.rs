//! One file per kind of volume.
pub mod config_map;
pub mod downward;
pub mod empty_dir;
pub mod host_path;
pub mod image;
pub mod projected;
pub mod secret;

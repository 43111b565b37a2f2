//! `storagemigration.k8s.io/v1`.
pub(crate) mod storage_version_migration;

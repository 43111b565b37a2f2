// Package conformance pins what `cargo xtask conformance` compiles: Kubernetes' own end-to-end suite,
// the runner it is written for, and the programs inside its test images. It holds no code: the
// packages are tools of the module (see go.mod), so that `go mod tidy` keeps their versions.
package conformance

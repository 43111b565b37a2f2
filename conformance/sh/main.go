// Command sh becomes busybox's shell, as the suite's images have it; or bash, where the environment
// holds names that are no variables of a shell, which the busybox that is packaged would drop.
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
)

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func main() {
	program := "/bin/ash"
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !variable.MatchString(name) {
			program = "/bin/bash"
		}
	}
	err := syscall.Exec(program, os.Args, os.Environ())
	fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
	os.Exit(127)
}

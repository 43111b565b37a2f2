// Command setuid says as whom it runs: in its image it belongs to root and has the set-user-ID bit,
// so that it tells whether a container may gain privileges.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Printf("Effective uid: %d\n", os.Geteuid())
}

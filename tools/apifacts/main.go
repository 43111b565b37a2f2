// Command apifacts writes what the Go types of the Kubernetes API say beyond their JSON names.
//
//	apifacts facts DIR        writes DIR/graph.txt and DIR/docs.json.gz
//	apifacts fuzzpairs N SEED writes N random objects of every kind in JSON and protobuf, one a line
//	apifacts corpus FILE      writes one such pair a type, gzipped
//
// Kybern commits the output; building it never needs Go. See crates/schema for the format's reader.
package main

import (
	"fmt"
	"os"
	"strconv"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "apifacts:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "facts":
		return writeFacts(args[1])
	case len(args) == 2 && args[0] == "corpus":
		return writeCorpus(args[1])
	case len(args) == 3 && args[0] == "fuzzpairs":
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		seed, err := strconv.ParseInt(args[2], 10, 64)
		if err != nil {
			return err
		}
		return fuzzPairs(os.Stdout, n, seed, wildFuncs)
	}
	return fmt.Errorf("usage: apifacts facts DIR | corpus FILE | fuzzpairs N SEED")
}

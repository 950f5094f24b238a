// history-checker says whether a recorded history of appends and reads is linearizable.
//
//	history-checker [-limit 60s] [-pictures FOLDER] HISTORY.jsonl
//
// Every partition is a list of its own: linearizability is a local property, so each is searched alone. The report is
// one JSON object on standard output. The exit code is 0 when all are linearizable, 1 when one is not, 2 when the time
// limit passed before the search ended (which is no success), 3 when the history cannot be read.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	ok        = "ok"
	violation = "violation"
	undecided = "undecided"
)

var exitCodes = map[string]int{ok: 0, violation: 1, undecided: 2}

const unreadable = 3

type report struct {
	Verdict    string    `json:"verdict"`
	Partitions []*result `json:"partitions"`
}

func main() {
	limit := flag.Duration("limit", time.Minute, "time for the search")
	pictures := flag.String("pictures", "", "folder for an HTML file of each partition that is not linearizable")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "history-checker: name one history file")
		os.Exit(unreadable)
	}
	found, err := check(flag.Arg(0), *limit, *pictures)
	if err != nil {
		fmt.Fprintf(os.Stderr, "history-checker: %s: %v\n", flag.Arg(0), err)
		os.Exit(unreadable)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(unreadable)
	}
	os.Exit(exitCodes[found.Verdict])
}

func check(name string, limit time.Duration, pictures string) (*report, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	parts, err := readHistory(file)
	if err != nil {
		return nil, err
	}
	found := &report{Verdict: ok, Partitions: make([]*result, len(parts))}
	problems := make([]error, len(parts))
	var searches sync.WaitGroup
	for number, one := range parts {
		searches.Add(1)
		go func(number int, one *part) {
			defer searches.Done()
			found.Partitions[number], problems[number] = search(one, limit, pictures)
		}(number, one)
	}
	searches.Wait()
	for number, one := range found.Partitions {
		if problems[number] != nil {
			return nil, problems[number]
		}
		if one.Verdict == violation || one.Verdict == undecided && found.Verdict == ok {
			found.Verdict = one.Verdict
		}
	}
	return found, nil
}

func search(one *part, limit time.Duration, pictures string) (*result, error) {
	known := one.gather()
	model := known.model()
	answer, info := porcupine.CheckOperationsVerbose(model, one.history(), limit)
	found := &result{Partition: one.partition, Verdict: undecided, Operations: len(one.operations)}
	switch answer {
	case porcupine.Ok:
		found.Verdict = ok
		return found, nil
	case porcupine.Illegal:
		found.Verdict = violation
	}
	found.explain(one, &known, info)
	if pictures == "" {
		return found, nil
	}
	found.Picture = filepath.Join(pictures, fmt.Sprintf("partition-%d.html", one.partition))
	return found, porcupine.VisualizePath(model, info, found.Picture)
}

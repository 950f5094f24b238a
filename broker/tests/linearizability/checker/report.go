package main

import (
	"fmt"
	"sort"

	"github.com/anishathalye/porcupine"
)

const (
	findingsMax = 10 // sentences of one kind in a report
	stuckMax    = 12 // operations named as the offending part
)

// result is what the report says about one partition.
type result struct {
	Partition  int      `json:"partition"`
	Verdict    string   `json:"verdict"` // ok, violation, undecided
	Operations int      `json:"operations"`
	Explained  int      `json:"explained,omitempty"` // operations that the longest order found so far holds
	State      string   `json:"state,omitempty"`     // the list after them
	Offending  []string `json:"offending,omitempty"` // those that had to come next and cannot
	Findings   []string `json:"findings,omitempty"`  // contradictions that need no search to be seen
	Picture    string   `json:"picture,omitempty"`   // file name of the visualisation
}

// explain fills in where the search got stuck: the longest order it found, and the operations that were due next.
func (r *result) explain(p *part, known *facts, info porcupine.LinearizationInfo) {
	var longest []porcupine.Operation
	for _, orders := range info.PartialLinearizationsOperations() {
		for _, order := range orders {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	placed := map[int]bool{}
	var list *entry
	for _, one := range longest {
		done := one.Input.(operation)
		placed[done.id] = true
		_, list = known.step(list, done)
	}
	r.Explained, r.State = len(longest), described(list)
	r.Offending = stuck(p.operations, placed)
	r.Findings = findings(p)
}

// stuck names what is left over and was called before the first of it ended: one of these had to come next.
func stuck(operations []operation, placed map[int]bool) []string {
	var left []operation
	for _, one := range operations {
		if !placed[one.id] {
			left = append(left, one)
		}
	}
	sort.Slice(left, func(a, b int) bool { return left[a].answer < left[b].answer })
	var named []string
	for _, one := range left {
		if one.call > left[0].answer || len(named) == stuckMax {
			continue
		}
		until := "never answered"
		if !one.unknown {
			until = fmt.Sprintf("answered at %.6f s", seconds(one.answer))
		}
		named = append(named, fmt.Sprintf("operation %d of client %d, called at %.6f s, %s: %s",
			one.id, one.client, seconds(one.call), until, one))
	}
	return named
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// findings lists contradictions that are visible without any search. They explain a verdict and never make one.
func findings(p *part) []string {
	appended := map[int64]operation{}
	atOffset := map[int64]operation{}
	var found notes
	for _, one := range p.operations {
		if one.kind != appendKind {
			continue
		}
		appended[one.value] = one
		if one.unknown {
			continue
		}
		if other, taken := atOffset[one.offset]; taken {
			found.add("offset", "offset %d was acknowledged for %d and for %d", one.offset, other.value, one.value)
		}
		atOffset[one.offset] = one
	}
	seen := map[int64]int64{} // value to offset
	held := map[int64]int64{} // offset to value
	for _, one := range p.operations {
		for at, value := range one.values {
			offset := one.offset + int64(at)
			if earlier, read := seen[value]; read && earlier != offset {
				found.add("twice", "%d was read at %d and at %d", value, earlier, offset)
			}
			if earlier, read := held[offset]; read && earlier != value {
				found.add("changed", "offset %d was read as %d and as %d", offset, earlier, value)
			}
			source, exists := appended[value]
			switch {
			case p.failed[value]:
				found.add("failed", "%d was read at %d, but appending it had failed for sure", value, offset)
			case !exists:
				found.add("phantom", "%d was read at %d, but nobody appended it", value, offset)
			case source.call > one.answer:
				found.add("early", "%d was read at %d before anybody asked to append it", value, offset)
			case source.offset != anywhere && source.offset != offset:
				found.add("moved", "%d was acknowledged at %d and read at %d", value, source.offset, offset)
			}
			seen[value], held[offset] = offset, value
		}
	}
	found.missing(p, held)
	return found.sentences
}

// missing finds acknowledged values that a later look should have shown: the end it saw is below them.
func (n *notes) missing(p *part, held map[int64]int64) {
	for _, done := range p.operations {
		if done.kind != appendKind || done.unknown {
			continue
		}
		if value, read := held[done.offset]; read && value != done.value {
			n.add("lost", "%d was acknowledged at %d, where %d was read", done.value, done.offset, value)
		}
		for _, look := range p.operations {
			if look.kind == appendKind || look.call <= done.answer {
				continue
			}
			short := !look.beyond && look.end <= done.offset || look.beyond && look.offset <= done.offset+1
			if short {
				n.add("stale", "%d was acknowledged at %d at %.6f s, and operation %d, called %.3f ms later, did not see it: %s",
					done.value, done.offset, seconds(done.answer), look.id, float64(look.call-done.answer)/1e6, look)
				break
			}
		}
	}
}

// notes keeps sentences, a few of each kind.
type notes struct {
	count     map[string]int
	sentences []string
}

func (n *notes) add(kind, format string, arguments ...interface{}) {
	if n.count == nil {
		n.count = map[string]int{}
	}
	if n.count[kind]++; n.count[kind] <= findingsMax {
		n.sentences = append(n.sentences, fmt.Sprintf(format, arguments...))
	}
}

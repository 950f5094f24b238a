package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sort"
)

// A whole partition that is read at the end of a run is one line.
const lineBytesMax = 64 << 20

// line is one event of the history: the invocation of an operation, or how it ended. An operation without an ending is
// one whose outcome is unknown.
type line struct {
	ID     int    `json:"id"`
	Event  string `json:"event"` // invoke, ok, failed, unknown
	TimeNs int64  `json:"time_ns"`

	// Of an invocation.
	Client    int    `json:"client"`
	Partition int    `json:"partition"`
	Kind      string `json:"kind"`  // append, read, end
	Value     int64  `json:"value"` // append
	From      int64  `json:"from"`  // read: the offset to begin at

	// Of an answer.
	Offset *int64  `json:"offset"` // append: where the value went
	Values []int64 `json:"values"` // read: from the asked offset on
	End    *int64  `json:"end"`    // read, end: the partition's end that was seen
	Beyond bool    `json:"beyond"` // read: refused because the asked offset lies behind the end
}

type kind int

const (
	appendKind kind = iota
	readKind
	endKind
)

var kinds = map[string]kind{"append": appendKind, "read": readKind, "end": endKind}

// anywhere is the offset of an append whose outcome is unknown and whose value nobody read.
const anywhere = -1

// operation is one call of one client: what it asked, what it was answered, and when. Times are nanoseconds of one clock.
type operation struct {
	id        int
	client    int
	partition int
	kind      kind
	call      int64
	answer    int64 // math.MaxInt64 while unknown
	value     int64 // append
	offset    int64 // append: where it went; read: where it began
	values    []int64
	end       int64
	beyond    bool
	unknown   bool
}

func (o operation) String() string {
	text := ""
	switch {
	case o.kind == appendKind && o.unknown && o.offset == anywhere:
		text = fmt.Sprintf("append(%d) -> unknown", o.value)
	case o.kind == appendKind && o.unknown:
		text = fmt.Sprintf("append(%d) -> unknown, read at %d", o.value, o.offset)
	case o.kind == appendKind:
		text = fmt.Sprintf("append(%d) -> %d", o.value, o.offset)
	case o.kind == endKind:
		text = fmt.Sprintf("end() -> %d", o.end)
	case o.beyond:
		text = fmt.Sprintf("read(%d) -> beyond the end", o.offset)
	default:
		text = fmt.Sprintf("read(%d) -> %s, end %d", o.offset, shortened(o.values), o.end)
	}
	return text
}

// shortened writes a list of values so that it fits a line.
func shortened(values []int64) string {
	const shown = 4
	if len(values) <= 2*shown {
		return fmt.Sprint(values)
	}
	return fmt.Sprintf("[%v … %v] (%d values)", trimmed(values[:shown]), trimmed(values[len(values)-shown:]), len(values))
}

func trimmed(values []int64) string {
	text := fmt.Sprint(values)
	return text[1 : len(text)-1]
}

// part is the history of one partition: its operations in the order of their calls, the values of all appends, and of
// those that failed for sure.
type part struct {
	partition  int
	operations []operation
	failed     map[int64]bool
	appended   map[int64]bool
}

// readHistory parses a history. Operations that failed for sure, and reads without an answer, did nothing and are left
// out; an append with an unknown outcome is left in and lasts for ever.
func readHistory(source io.Reader) ([]*part, error) {
	begun := map[int]*line{}
	ended := map[int]*line{}
	scanner := bufio.NewScanner(source)
	scanner.Buffer(make([]byte, 1<<20), lineBytesMax)
	for number := 1; scanner.Scan(); number++ {
		one := new(line)
		if err := json.Unmarshal(scanner.Bytes(), one); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if err := place(one, begun, ended); err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, err
	}
	parts := map[int]*part{}
	for id, call := range begun {
		found := parts[call.Partition]
		if found == nil {
			found = &part{partition: call.Partition, failed: map[int64]bool{}, appended: map[int64]bool{}}
			parts[call.Partition] = found
		}
		if err := found.add(call, ended[id]); err != nil {
			return nil, fmt.Errorf("operation %d: %w", id, err)
		}
	}
	return sorted(parts), nil
}

func place(one *line, begun, ended map[int]*line) error {
	if one.Event == "invoke" {
		if begun[one.ID] != nil {
			return fmt.Errorf("operation %d is invoked twice", one.ID)
		}
		begun[one.ID] = one
		return nil
	}
	if one.Event != "ok" && one.Event != "failed" && one.Event != "unknown" {
		return fmt.Errorf("unknown event %q", one.Event)
	}
	call := begun[one.ID]
	if call == nil || ended[one.ID] != nil {
		return fmt.Errorf("operation %d ends without being under way", one.ID)
	}
	if one.TimeNs < call.TimeNs {
		return fmt.Errorf("operation %d ends before it began", one.ID)
	}
	ended[one.ID] = one
	return nil
}

func (p *part) add(call, answer *line) error {
	kind, known := kinds[call.Kind]
	if !known {
		return fmt.Errorf("unknown kind %q", call.Kind)
	}
	done := operation{id: call.ID, client: call.Client, partition: call.Partition, kind: kind, call: call.TimeNs}
	unknown := answer == nil || answer.Event == "unknown"
	failed := !unknown && answer.Event == "failed"
	if kind == appendKind {
		if p.appended[call.Value] {
			return fmt.Errorf("the value %d is appended a second time: values must differ", call.Value)
		}
		p.appended[call.Value] = true
		done.value, done.unknown = call.Value, unknown
		switch {
		case failed:
			p.failed[call.Value] = true
			return nil
		case unknown:
			done.offset, done.answer = anywhere, math.MaxInt64
		case answer.Offset == nil || *answer.Offset < 0:
			return fmt.Errorf("an append succeeded without an offset")
		default:
			done.offset, done.answer = *answer.Offset, answer.TimeNs
		}
	} else {
		if failed || unknown {
			return nil
		}
		if answer.End == nil && !answer.Beyond {
			return fmt.Errorf("a read succeeded without an end")
		}
		done.offset, done.values, done.beyond, done.answer = call.From, answer.Values, answer.Beyond, answer.TimeNs
		if answer.End != nil {
			done.end = *answer.End
		}
	}
	p.operations = append(p.operations, done)
	return nil
}

func sorted(parts map[int]*part) []*part {
	var all []*part
	for _, one := range parts {
		sort.Slice(one.operations, func(a, b int) bool {
			first, second := one.operations[a], one.operations[b]
			return first.call < second.call || first.call == second.call && first.id < second.id
		})
		all = append(all, one)
	}
	sort.Slice(all, func(a, b int) bool { return all[a].partition < all[b].partition })
	return all
}

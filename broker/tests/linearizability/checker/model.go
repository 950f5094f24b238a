package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// entry is one value of a partition's list; lists that begin alike share their entries, so appending costs one entry.
type entry struct {
	before *entry
	value  int64
	length int64 // of the list that ends here
	hash   uint64
}

func (e *entry) size() int64 {
	if e == nil {
		return 0
	}
	return e.length
}

func (e *entry) with(value int64) *entry {
	hash := uint64(14695981039346656037) // FNV-1a over the values' bytes
	if e != nil {
		hash = e.hash
	}
	for shift := 0; shift < 64; shift += 8 {
		hash = (hash ^ uint64(value>>shift)&0xff) * 1099511628211
	}
	return &entry{e, value, e.size() + 1, hash}
}

func equal(first, second *entry) bool {
	for first != second {
		if first == nil || second == nil || first.hash != second.hash || first.length != second.length || first.value != second.value {
			return false
		}
		first, second = first.before, second.before
	}
	return true
}

// holds says whether the list has these values from the offset on.
func (e *entry) holds(offset int64, values []int64) bool {
	last := offset + int64(len(values)) // exclusive
	for e.size() > last {
		e = e.before
	}
	for at := len(values) - 1; at >= 0; at-- {
		if e == nil || e.length != offset+int64(at)+1 || e.value != values[at] {
			return false
		}
		e = e.before
	}
	return true
}

// facts is what the whole history says about a partition, whatever the order: which value is where.
type facts struct {
	values map[int64]int64 // by offset
	top    int64           // the first offset that nobody claims to have seen taken
}

// gather collects the facts, and settles appends with an unknown outcome:
//
//   - One whose value was read went to where it was read. Every order that explains that read puts it there.
//   - One whose value was never read is left out when no offset below the top is left without a value: it can only come
//     after everything that anybody saw, where nobody can tell it from one that never happens.
//   - Any other may take one of the offsets that are not accounted for.
func (p *part) gather() facts {
	known := facts{values: map[int64]int64{}}
	offsets := map[int64]int64{} // by value, as read
	for _, one := range p.operations {
		switch {
		case one.kind == appendKind && !one.unknown:
			known.note(one.offset, one.value)
		case one.kind == readKind && !one.beyond:
			for at, value := range one.values {
				offset := one.offset + int64(at)
				known.note(offset, value)
				if _, seen := offsets[value]; !seen {
					offsets[value] = offset
				}
			}
			known.raise(one.end)
		case one.kind == endKind:
			known.raise(one.end)
		}
	}
	whole := int64(len(known.values)) == known.top
	kept := p.operations[:0]
	for _, one := range p.operations {
		if one.kind == appendKind && one.unknown {
			if offset, seen := offsets[one.value]; seen {
				one.offset = offset
			} else if whole {
				continue
			}
		}
		kept = append(kept, one)
	}
	p.operations = kept
	return known
}

func (f *facts) note(offset, value int64) {
	if _, taken := f.values[offset]; !taken {
		f.values[offset] = value
	}
	f.raise(offset + 1)
}

func (f *facts) raise(end int64) {
	if end > f.top {
		f.top = end
	}
}

// step is the specification: a partition is a list. An append puts its value at the end and tells the offset; a read
// tells values and end as they are at one moment between its call and its answer.
func (f *facts) step(list *entry, one operation) (bool, *entry) {
	size := list.size()
	switch {
	case one.kind == appendKind && one.offset == anywhere:
		_, taken := f.values[size]
		return !taken, list.with(one.value)
	case one.kind == appendKind:
		return size == one.offset, list.with(one.value)
	case one.beyond:
		return one.offset > size, list
	case one.kind == endKind:
		return one.end == size, list
	default:
		return one.end == size && one.offset+int64(len(one.values)) <= size && list.holds(one.offset, one.values), list
	}
}

// model puts the specification into porcupine's words.
func (f *facts) model() porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return (*entry)(nil) },
		Step: func(state, input, _ interface{}) (bool, interface{}) {
			ok, next := f.step(state.(*entry), input.(operation))
			return ok, next
		},
		Equal: func(first, second interface{}) bool { return equal(first.(*entry), second.(*entry)) },
		Hash: func(state interface{}) uint64 {
			if list := state.(*entry); list != nil {
				return list.hash
			}
			return 0
		},
		DescribeOperation: func(input, _ interface{}) string { return input.(operation).String() },
		DescribeState:     func(state interface{}) string { return described(state.(*entry)) },
	}
}

func described(list *entry) string {
	if list == nil {
		return "empty"
	}
	return fmt.Sprintf("%d values, the last is %d", list.length, list.value)
}

// history is the operations as porcupine takes them; those without an answer outlast all others.
func (p *part) history() []porcupine.Operation {
	last := int64(0)
	for _, one := range p.operations {
		if one.call > last {
			last = one.call
		}
		if !one.unknown && one.answer > last {
			last = one.answer
		}
	}
	var all []porcupine.Operation
	for _, one := range p.operations {
		until := one.answer
		if one.unknown {
			until = last + 1
		}
		all = append(all, porcupine.Operation{ClientId: one.client, Input: one, Call: one.call, Return: until})
	}
	return all
}

package spec

import (
	"sort"
	"sync"
)

// The language is one table. Decoding, defaults, checks, suggestions, `drydock
// explain` and what this build cannot do yet are all read from it: a new driver
// is a new row in schema_drivers.go.

// kind is what an attribute takes.
type kind int

const (
	kindString kind = iota
	kindText        // a string, or credential(name)
	kindDuration
	kindInt
	kindBool
	kindStrings
	kindArgv
	kindMap     // string to string
	kindTexts   // string to string or credential(name)
	kindShare   // a number of hosts, or a share such as "25%"
	kindDigests // platform to digest
	kindExpect
	kindTime
	kindLabels // label to a value or a list of values
	kindAny    // a local
	kindCounts // string to whole number
)

var kindNames = [...]string{
	kindString:   "string",
	kindText:     "string or credential(name)",
	kindDuration: "duration",
	kindInt:      "whole number",
	kindBool:     "true or false",
	kindStrings:  "list of strings",
	kindArgv:     "list of strings, never a shell line",
	kindMap:      "map of strings",
	kindTexts:    "map of strings or credential(name)",
	kindShare:    "number, or share such as \"25%\"",
	kindDigests:  "map of platform to digest",
	kindExpect:   "object",
	kindTime:     "time, RFC 3339",
	kindLabels:   "map of label to value, or to a list of values",
	kindAny:      "any value",
	kindCounts:   "map of whole numbers",
}

// String is what explain prints.
func (k kind) String() string { return kindNames[k] }

// form is a further rule on a string.
type form struct {
	says string                // for explain: "absolute path"
	ok   func(s string) string // what is wrong, "" if nothing
}

// attribute is one row: an attribute of a block.
type attribute struct {
	name     string
	kind     kind
	required bool
	def      any // the canonical JSON value, nil for none
	doc      string
	lowest   int64 // of a number; of a duration in nanoseconds
	highest  int64 // 0: no bound
	words    []string
	form     *form
	alike    bool // the same for the whole fleet: host.* and release.* cannot be used
	literal  bool // literals only
}

// schema is one kind of block.
type schema struct {
	typ     string
	labels  []label
	doc     string
	attrs   []attribute
	blocks  []*schema
	drivers []*schema // chosen by the first label; they bring the attributes
	many    bool      // may stand more than once
	unbuilt bool      // part of the language, not carried out by this build
	where   place
	free    bool // any attribute (locals)
}

// label is what stands between a block's type and its brace.
type label struct {
	name     string
	doc      string
	optional bool
}

// place is where a top-level block may stand.
type place int

const (
	anywhere place = iota
	inEnvironment
	atRoot
)

func (s *schema) attr(name string) *attribute {
	for i := range s.attrs {
		if s.attrs[i].name == name {
			return &s.attrs[i]
		}
	}
	return nil
}

func (s *schema) block(typ string) *schema {
	for _, b := range s.blocks {
		if b.typ == typ {
			return b
		}
	}
	return nil
}

func (s *schema) driver(name string) *schema {
	for _, d := range s.drivers {
		if d.typ == name {
			return d
		}
	}
	return nil
}

// driverOf is the driver that a block's first label names, or nil.
func (s *schema) driverOf(n blockNode) *schema {
	if len(n.labels) == 0 {
		return nil
	}
	return s.driver(n.labels[0].name)
}

func (s *schema) labelsNeeded() int {
	n := 0
	for _, l := range s.labels {
		if !l.optional {
			n++
		}
	}
	return n
}

func (s *schema) labelsAllowed() int { return len(s.labels) }

// words are all names that may stand in a block.
func (s *schema) words() []string {
	var out []string
	for _, a := range s.attrs {
		out = append(out, a.name)
	}
	for _, b := range s.blocks {
		out = append(out, b.typ)
	}
	return out
}

func (s *schema) driverNames() []string {
	var out []string
	for _, d := range s.drivers {
		out = append(out, d.typ)
	}
	return out
}

// language is the whole table. It is built once and never written again.
var language = sync.OnceValue(buildLanguage)

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

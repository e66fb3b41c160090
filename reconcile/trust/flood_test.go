package trust

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// wide is a history of commits that each name a thousand parents, which packs
// hold in a few bytes.
type wide struct{ History }

func (wide) Between(context.Context, string, string) ([]string, error) {
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf("%040x", i))
	}
	return all, nil
}

func (wide) Commit(context.Context, string) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "tree %040x\n", 1)
	for i := range 1024 {
		fmt.Fprintf(&b, "parent %040x\n", i)
	}
	return []byte(b.String()), nil
}

func TestMoreParentsThanPeopleMerge(t *testing.T) {
	j := newRepo(t).judge()
	j.History = wide{}
	if _, err := j.Judge(t.Context(), hash([]byte("x")), fmt.Sprintf("%040x", 999), noon); err == nil || !strings.Contains(err.Error(), "name more than 800000 parents") {
		t.Fatal(err)
	}
}

// What a message names is remembered only where it is at hand: anybody can name
// anything, and as much as fits.
func TestVouchesForNothingAreForgotten(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	c := r.on(base, files{"README.md": "x"})
	text := "vouch\n\nDrydock-Vouch: " + c + "\n"
	for i := range 100 {
		text += fmt.Sprintf("Drydock-Vouch: %040x\n", i)
	}
	head := r.on(c, nil, says_(text))
	tr := &trial{Judge: r.judge(), now: noon, commits: map[string]*candidate{}, vouchers: map[string][]*candidate{},
		reader: reader{history: r, past: &Past{}, accepted: base, parents: map[string][]string{}, onto: map[string]bool{}}}
	if err := tr.load(t.Context(), base, head); err != nil || len(tr.vouchers) != 1 || len(tr.vouchers[c]) != 1 {
		t.Fatal(err, tr.vouchers)
	}
}

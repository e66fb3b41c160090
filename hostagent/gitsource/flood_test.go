package gitsource

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
)

// A merge of many commits, each as large as one can be: a pack holds them in a
// few kilobytes each, and a host never holds them side by side.
func TestLargeCommitsSideBySide(t *testing.T) {
	p := newPen(t)
	tree := p.files(map[string]string{"a.hcl": "100644 x"})
	message := strings.Repeat("0123456789abcdef", 240<<10)
	var sides []string
	for i := range 12 {
		sides = append(sides, p.object("commit", fmt.Appendf(nil, "tree %s\nauthor A <a@b> %d +0000\ncommitter A <a@b> %d +0000\n\n%s", tree, i, i, message)))
	}
	tip := p.commit(tree, 100, sides...)
	r := repository(t, p.dir)
	held := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, met := held(), 0
	err := r.objects.walk(t.Context(), []plumbing.Hash{plumbing.NewHash(tip)}, func(c *Commit) (bool, bool, error) {
		if met++; met == 2 {
			if more := int64(held() - before); more > maxWaiting+maxWaiting/2 {
				t.Errorf("%d MiB for a merge of %d commits", more>>20, len(sides))
			}
		}
		if met > 1 && c.Message != message { // also of those that were read again
			t.Errorf("a message of %d bytes", len(c.Message))
		}
		return false, false, nil
	})
	if err != nil || met != len(sides)+1 {
		t.Error(met, err)
	}
}

// More parents than any history of people has take no more memory than theirs.
func TestMoreParentsThanPeopleMerge(t *testing.T) {
	p := newPen(t)
	tree := p.files(map[string]string{"a.hcl": "100644 x"})
	a := p.commit(tree, 1)
	b := p.commit(tree, 2, a)
	h := historyOf(t, p.dir)
	h.graph.links = maxLinks
	if _, err := h.Between(t.Context(), "", b); err == nil || !strings.Contains(err.Error(), "name more than") {
		t.Fatal(err)
	}
}

package attacks

import (
	"fmt"
	"slices"
	"testing"

	"drydock/reconcile/trust"
)

// row is a history on top of the base, and what hosts make of its head.
type row struct {
	name string
	item string // of the list of bad input; "" for what it does not name
	rule string // the sentence that it tries
	make func(r *Repo, base string) (head string)

	// Before it the host is shown another head, and what it has may be changed.
	first func(r *Repo, base string) string
	then  func(s *stage)

	moved bool                                // shop runs on under the name store
	lost  bool                                // part of what the host had accepted is forgotten
	head  func(r *Repo, pushed string) string // what is accepted, where it is not what was pushed

	fault trust.Fault // "": it is a near miss, and taken
	says  []string    // parts of what status says
	other bool        // refused before anybody looks at signatures; fault means nothing

	waits  string              // "approval web": the commit is taken, and a gate holds a service, whose reason says is
	policy func(*trust.Policy) // changes the hosts' own

	runs map[string]string // services of prod that run at a version in the end, besides the base's
	git  string            // why git thinks otherwise of a signature here; "": it does not
}

// refused reports whether the head must not become the accepted commit.
func (row row) refused() bool { return row.fault != "" || row.other }

func (row row) attack() bool { return row.refused() || row.waits != "" }

func rows() []row {
	return slices.Concat(rowsOfSignatures(), rowsOfBytes(), rowsOfRoles(), rowsOfMerges(), rowsOfVouches(), rowsOfApprovals(), rowsOfRefs(), rowsOfTime())
}

// groups are how many rows run side by side.
const groups = 4

// TestRows shows all attacks of a group to one host, one after another: none of
// them may leave anything behind. What is taken goes to a host of its own.
func TestRows(t *testing.T) {
	first := newStage(t)
	for g := range groups {
		t.Run(fmt.Sprint(g), func(t *testing.T) {
			t.Parallel()
			hostile := first.copy(t, nil)
			for i, row := range rows() {
				if i%groups != g {
					continue
				}
				t.Run(row.name, func(t *testing.T) {
					s := hostile
					switch {
					case row.then != nil:
						s = first.copy(t, nil) // the repository is changed too
					case !row.refused() || row.policy != nil || row.first != nil:
						s = first.copy(t, hostile.repo)
					}
					s.plays(t, row)
				})
			}
		})
	}
}

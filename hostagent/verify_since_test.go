package hostagent

import (
	"strings"
	"testing"

	"drydock/reconcile"
	"drydock/spec"
)

// Trust that begins on a host which has a past.

// What was accepted before there was trust is judged from since; until it is
// found good nothing of it begins, and what runs is looked after.
func TestTrustThatComesLater(t *testing.T) {
	for name, c := range map[string]struct {
		since, way string // of commits: first, second
		says       string
	}{
		"since before":      {"first", "", "is not signed"},
		"since itself":      {"second", "accepted", ""},
		"no since":          {"", "on trust", ""},
		"since elsewhere":   {"elsewhere", "", "does not descend from"},
		"since of no place": {"nowhere", "", "nothing can be verified from the commit that since"},
	} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				d, o, _ := h.trusted()
				before := o
				before.Trust = nil
				at := map[string]string{"": "", "nowhere": strings.Repeat("d", 40)}
				at["first"] = d.on("", "alice@acme", "1", "")
				pass(t, New(before))
				at["second"] = d.on(at["first"], "", "2", "")
				// Accepted, and not carried out yet.
				if _, err := d.Append(t.Context(), reconcile.Record{Kind: reconcile.Accepted, Commit: at["second"]}); err != nil {
					t.Fatal(err)
				}
				at["elsewhere"] = d.on(at["first"], "alice@acme", "1", "")
				d.set(func() { d.head, d.mark = at["second"], at["second"] })
				o.Trust.Policy.Since = at[c.since]
				a := New(o)
				pass(t, a)
				s := sourceOf(t, a)
				if c.says == "" {
					is(t, a, "web", reconcile.Converged, "2")
					if s.How != c.way || s.Verified != (c.since != "") || s.Error != "" {
						t.Fatalf("%+v", s)
					}
					records := len(d.records)
					pass(t, New(o))
					if len(d.records) != records {
						t.Fatal("it was judged again")
					}
					return
				}
				is(t, a, "web", reconcile.Converged, "1")
				if s.Verified || !strings.Contains(s.Error, c.says) {
					t.Fatalf("%+v", s)
				}
				d.set(func() { delete(d.process, "web") })
				pass(t, a)
				if d.process["web"] != "1" {
					t.Fatal("what runs is not looked after")
				}
				if c.since == "first" {
					d.vouch(at["second"], "bob@acme", "2", at["second"])
					pass(t, a)
					is(t, a, "web", reconcile.Converged, "2")
				}
			})
		})
	}
}

// A head must descend from what was accepted before there was trust as well as
// from since.
func TestForwardFromBoth(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		d, o, _ := h.trusted()
		first := d.on("", "alice@acme", "1", "")
		second := d.on(first, "alice@acme", "2", "")
		before := o
		before.Trust = nil
		pass(t, New(before))
		beside := d.on(first, "alice@acme", "3", "")
		o.Trust.Policy.Since = first
		a := New(o)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "2")
		if s := sourceOf(t, a); s.Blocked != beside || d.Memory().Accepted != second || !strings.Contains(s.Error, "git merge "+second) {
			t.Fatalf("%+v", s)
		}
	})
}

// A since that is written later holds for what was let in before, if that began
// on trust; what was verified from a since is not judged by another.
func TestSinceThatComesLater(t *testing.T) {
	for _, on := range []string{"trust", "since"} {
		virtual(t, func(t *testing.T, h *host) {
			d, o, _ := h.trusted()
			root := d.on("", "", "0", "")
			first := d.on(root, "", "1", "")
			if on == "since" {
				o.Trust.Policy.Since = first
			}
			pass(t, New(o))
			second := d.on(first, "alice@acme", "2", "")
			pass(t, New(o))
			o.Trust.Policy.Since = root
			a := New(o)
			pass(t, a)
			is(t, a, "web", reconcile.Converged, "2")
			if s := sourceOf(t, a); (s.Blocked == second) != (on == "trust") || s.Blocked != "" && !strings.Contains(s.Error, spec.Short(first)) {
				t.Fatalf("on %s: %+v", on, s)
			}
		})
	}
}

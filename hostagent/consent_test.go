package hostagent

import (
	"slices"
	"strings"
	"testing"

	"drydock/reconcile"
)

const two = `approval {
    required = 2
    from     = ["alice@acme", "bob@acme", "carol@acme"]
  }`

const one = `approval {
    from = ["alice@acme", "bob@acme", "carol@acme"]
  }`

// A service that asks for people waits, names them, fetches nothing, and goes
// on at once when the last of them has signed.
func TestApprovalIsWaitedForBeforeAnythingIsFetched(t *testing.T) {
	virtual(t, func(t *testing.T, h *host) {
		o, _ := h.trusting()
		files := map[string]string{"prod/web.hcl": declared("web", "1", two), "prod/api.hcl": declared("api", "1", "")}
		h.commit(files)
		a := h.run(o)
		pass(t, a)
		is(t, a, "web", reconcile.Waiting, "")
		is(t, a, "api", reconcile.Converged, "1")
		s := row(t, a, "web")
		if s.Gate != "approval" || !slices.Equal(s.Missing, []string{"alice@acme", "bob@acme", "carol@acme"}) || !s.Unapproved {
			t.Fatalf("%+v", s)
		}
		if !strings.Contains(s.Reason, "drydock approve web --env prod") || !strings.Contains(s.Reason, "prod/web.hcl:25") {
			t.Fatalf("it does not say what to do, and where: %s", s.Reason)
		}
		for _, step := range h.steps() {
			if strings.HasPrefix(step, "web/") {
				t.Fatalf("%s, and nobody had approved", step)
			}
		}
		agree(t, files, "web", "alice@acme")
		h.commit(files)
		pass(t, a)
		if s := row(t, a, "web"); s.Gate != "approval" || !slices.Equal(s.Missing, []string{"bob@acme", "carol@acme"}) || !strings.Contains(s.Reason, "only alice@acme approved") {
			t.Fatalf("%+v", s)
		}
		agree(t, files, "web", "bob@acme")
		h.commit(files)
		pass(t, a)
		is(t, a, "web", reconcile.Converged, "1")
		if row(t, a, "web").Unapproved {
			t.Fatal("it runs, and is said to be unapproved")
		}
		pass(t, a)
		if n := len(h.steps()); n > 14 {
			t.Fatalf("it went on: %v", h.steps())
		}
	})
}

// A commit that lowers a rule is approved by the rule that it lowers, although
// nothing on the host follows from it; what runs goes on meanwhile.
func TestLoweredRuleIsApprovedByTheOldOne(t *testing.T) {
	for name, lowered := range map[string]string{"lowered": one, "dropped": ""} {
		t.Run(name, func(t *testing.T) {
			virtual(t, func(t *testing.T, h *host) {
				o, _ := h.trusting()
				files := map[string]string{"prod/web.hcl": declared("web", "1", two)}
				agree(t, files, "web", "alice@acme", "bob@acme")
				h.commit(files)
				a := h.run(o)
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "1")

				files["prod/web.hcl"] = declared("web", "1", lowered)
				agree(t, files, "web", "carol@acme")
				h.commit(files)
				pass(t, a)
				is(t, a, "web", reconcile.Waiting, "1")
				if s := row(t, a, "web"); s.Gate != "approval" || !s.Unapproved || !slices.Equal(s.Missing, []string{"alice@acme", "bob@acme"}) {
					t.Fatalf("%+v", s)
				}
				m := h.Memory()
				if m.Service("web").Running.Service.Approval.Required != 2 {
					t.Fatal("the lowered rule is in force")
				}
				// What runs is repaired meanwhile.
				h.set(func() { delete(h.process, "web") })
				pass(t, a)
				if h.process["web"] != "1" {
					t.Fatal("it is not repaired while it waits")
				}
				// The next commit uses the lowered rule, and it is not in force.
				files["prod/web.hcl"] = declared("web", "2", lowered)
				agree(t, files, "web", "carol@acme")
				h.commit(files)
				pass(t, a)
				is(t, a, "web", reconcile.Waiting, "1")
				agree(t, files, "web", "bob@acme")
				h.commit(files)
				pass(t, a)
				is(t, a, "web", reconcile.Converged, "2")
			})
		})
	}
}

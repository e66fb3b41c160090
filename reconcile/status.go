package reconcile

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"drydock/spec"
)

// Live is what the running agent knows of a service and no journal holds.
type Live struct {
	Stage Stage
	Step  string // the step in hand
	Gate  Gate
	Err   error
	// Unhealthy is what the checks at rest last saw; empty if all is well.
	Unhealthy string
	// Failing is what the checks of the plan in hand last saw, while they go on.
	Failing string
}

// ServiceStatus is one service of `hostagent status --output json`.
type ServiceStatus struct {
	Name    string         `json:"name"`
	State   State          `json:"state"`
	Reason  string         `json:"reason"`
	Gate    string         `json:"gate"`
	Step    string         `json:"step"`
	Missing []string       `json:"missing"`
	Wanted  *spec.Revision `json:"wanted"`
	Running *Running       `json:"running"`
	Origin  string         `json:"origin"`

	// Unapproved: people have still to agree to what is wanted, whatever gate is first.
	Unapproved bool `json:"unapproved,omitempty"`
}

// Running is the revision that runs, and since when.
type Running struct {
	spec.Revision
	Since time.Time `json:"since"`
}

// HostStatus is `hostagent status --output json`.
type HostStatus struct {
	Host        string          `json:"host"`
	Environment string          `json:"environment"`
	Commit      string          `json:"commit"`
	Paused      bool            `json:"paused"`
	Agent       bool            `json:"agent"` // whether one runs; without it nothing here changes by itself
	Source      SourceStatus    `json:"source"`
	Config      string          `json:"config,omitempty"`    // why the host's own files, as they are now, are not in force
	Overrides   []spec.Override `json:"overrides,omitempty"` // in force now
	Services    []ServiceStatus `json:"services"`
}

// SourceStatus is how the host stands towards its repository.
type SourceStatus struct {
	URL      string `json:"url"`
	Verified bool   `json:"verified"` // the commit in force was: false without a trust block, where any fast-forward commit is accepted
	Error    string `json:"error"`
	// BehindSince is when the source was last followed without an error, while it is not.
	BehindSince *time.Time `json:"behind_since"`

	How     string   `json:"how,omitempty"`     // how the commit in force was found good: "signed", "vouched", "merged", "accepted" (since names it), "on trust"
	By      []string `json:"by,omitempty"`      // who answers for it
	Blocked string   `json:"blocked,omitempty"` // the head that is not accepted; Error says why
	Stale   string   `json:"stale,omitempty"`   // why this host may be kept in the dark: nothing newer came for longer than freshness allows
}

// Status is what people and programs are told of one service: the plan it has,
// what is remembered, and what goes on right now.
func Status(p ServicePlan, r *Remembered, want spec.Wanted, live Live) ServiceStatus {
	s := ServiceStatus{Name: p.Service, State: p.State, Reason: p.Reason, Missing: []string{}}
	if i := slices.IndexFunc(want.Services, func(w spec.Service) bool { return w.Name == p.Service }); i >= 0 {
		rev := want.Services[i].Revision()
		s.Wanted, s.Origin = &rev, want.Services[i].Origin.String()
	}
	switch {
	case r.Halt != nil && p.Down:
	case r.Halt != nil && p.Left:
		s.Running = &Running{Revision: r.Halt.Target.Revision(), Since: r.Halt.Since}
	case r.Running != nil && r.Running.Foreign == "":
		s.Running = &Running{Revision: r.Running.Service.Revision(), Since: r.Running.Since}
		if s.Origin == "" {
			s.Origin = r.Running.Service.Origin.String()
		}
	}
	s.Step = live.Step
	back := r.goingBack()
	switch {
	case live.Stage == Preparing, live.Stage == Working, live.Stage == Reverting:
		s.State = Progressing
		s.Reason = cmp.Or(back, s.Reason)
		if live.Failing != "" {
			s.Reason = strings.TrimRight(s.Reason, ". ") + "; not healthy yet: " + live.Failing
		}
		if why := r.Open.failure(); why != "" && (r.committed() || live.Stage == Preparing && r.Open.Target.Revision() == p.Target.Revision()) {
			s.Reason = sentence(s.Reason) + " It is tried again, after: " + again(why, r)
		}
	case r.committed():
		s.State = Progressing
		s.Reason = cmp.Or(back, s.Reason)
		if why := cmp.Or(errorText(live.Err), r.Open.failure()); why != "" {
			s.Reason = again(why, r)
			if back != "" {
				s.Reason = sentence(back) + " It is tried again, after: " + s.Reason
			}
		}
	case !live.Gate.Open() && (p.State == Progressing || p.State == Waiting || p.State == Drifted || p.State == Converged && p.Adopts):
		if p.State == Progressing || p.State == Converged {
			s.State = Waiting
		}
		s.Gate, s.Reason = live.Gate.Name, live.Gate.Reason
		if at := live.Gate.Origin.String(); at != "" && at != s.Origin && !strings.Contains(s.Reason, at) {
			s.Reason += " (" + at + ")"
		}
		if why := r.Open.failure(); why != "" && live.Gate.Name != "fetch" && !strings.Contains(placeless(s.Reason), placeless(why)) {
			s.Reason += ". It failed before: " + why
		}
		s.Missing = append(s.Missing, live.Gate.Missing...)
	case live.Err != nil && (p.State == Progressing || p.State == Drifted):
		s.Reason = live.Err.Error()
	case p.State == Converged && live.Unhealthy != "":
		s.Reason = live.Unhealthy
	}
	if diags := want.Held[p.Service]; len(diags) > 0 && s.State != Progressing && s.State != Halted {
		s.State, s.Gate = Waiting, "declaration"
		s.Reason = "held back, with no earlier declaration to stay at: " + firstError(want.Commit, diags)
		if s.Wanted != nil || s.Running != nil {
			s.Reason = "kept at its last good declaration: " + firstError(want.Commit, diags)
		}
	}
	return s
}

// ExitCode is how `hostagent once` ends: 0 all converged (or orphaned), 3 some
// wait on a gate and none failed, 1 anything else.
func (h HostStatus) ExitCode() int {
	code := 0
	if h.Source.Error != "" {
		code = 1
	}
	for _, s := range h.Services {
		switch s.State {
		case Converged, Orphaned:
		case Waiting:
			if s.Gate == "fetch" || s.Gate == "host" {
				return 1 // a failure, though nothing is out of service
			}
			if code == 0 {
				code = 3
			}
		default:
			return 1
		}
	}
	return code
}

// placeless is a reason without the lines that asked for it: the same trouble
// is none the newer for a commit that moved them.
func placeless(s string) string { return places.ReplaceAllString(s, "") }

var places = regexp.MustCompile(` \([^() ]+:[0-9]+(@[0-9a-f]+)?\)`)

// goingBack is what a revert under way goes back from, and to; else "".
func (s *Remembered) goingBack() string {
	if !s.committed() || s.Open.Purpose != Revert {
		return ""
	}
	return "revert " + s.Open.Reason
}

// failure is why a step of the plan that is not done failed last, or "".
func (o *OpenPlan) failure() string {
	if o == nil {
		return ""
	}
	for _, id := range o.Steps {
		if p := o.Progress[id]; p.Is == Failed || p.Is == Begun {
			return p.Reason
		}
	}
	return ""
}

// again is why a step that has begun is tried once more, and what that means
// for who uses the service.
func again(why string, r *Remembered) string {
	if len(r.Drains) == 0 {
		return why
	}
	return sentence(why) + " It is out of rotation meanwhile"
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func firstError(commit string, diags hcl.Diagnostics) string {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			if d.Subject == nil {
				return d.Summary + ". " + d.Detail
			}
			return fmt.Sprintf("%s: %s. %s", spec.Origin{Commit: commit, Range: *d.Subject}, d.Summary, d.Detail)
		}
	}
	return ""
}

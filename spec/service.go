package spec

import (
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// Host is what evaluation may know of a machine. Its fields are the language's
// host.name, host.os, host.arch and host.labels; os and arch are spelled as Go
// spells GOOS and GOARCH.
type Host struct {
	Name        string
	OS, Arch    string
	Labels      map[string]string
	Environment string // the directory of the repository that this host follows
}

// Service is one service as one host should run it: profile, locals and host
// values resolved, every default filled in. It is a value: comparable by its
// JSON, journaled whole, never changed after [Fleet.For] returned it.
type Service struct {
	Name        string  `json:"name"`
	Environment string  `json:"environment"`
	Origin      Origin  `json:"origin"` // of the service block
	Release     Release `json:"release"`

	// SpecHash is 64 hex digits over the whole declaration but the release,
	// with profile and locals resolved and host and release values left as
	// they are written: the same on every host of the fleet.
	SpecHash string `json:"spec"`

	// Digests are the release's by platform, where there are several: what people
	// approve is all of them, and Release.Digest is the one of this host.
	Digests map[string]string `json:"digests,omitempty"`

	Artifact *Artifact `json:"artifact,omitempty"`
	Drains   []Block   `json:"drains,omitempty"` // in order of declaration; undrained in reverse
	Install  *Block    `json:"install,omitempty"`
	Migrates []Block   `json:"migrates,omitempty"`
	Start    *Block    `json:"start,omitempty"`
	Checks   []Block   `json:"checks,omitempty"`
	Hooks    []Block   `json:"hooks,omitempty"` // run blocks, in order of declaration

	Rollout   Rollout   `json:"rollout"`
	Approval  *Approval `json:"approval,omitempty"`
	Batch     *Batch    `json:"batch,omitempty"`
	DependsOn []string  `json:"depends_on,omitempty"`

	// Holds lists what this build cannot do for this service yet; while it is
	// not empty, nothing is done to the service and its state is waiting.
	Holds []Hold `json:"-"`
}

// Hold is one reason from the declaration itself why a service must wait:
// a driver that this build does not have.
// It is never ignored, because what it asks for may be what makes a release safe.
type Hold struct {
	Gate    string   // "driver"
	Reason  string   // a whole sentence for people
	Missing []string // who or what is missing, if it has names
	Origin  Origin
}

// Revision is what a rollout carries and a host reports: a release together
// with the hash of its spec. Two revisions are the same if all fields are.
type Revision struct {
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Spec    string `json:"spec"`
	Attempt int    `json:"attempt,omitempty"` // from the second on; the first is 0
}

// Requires are the attestations that the service's migrations ask for, sorted,
// each once.
func (s Service) Requires() []string {
	var all []string
	for _, m := range s.Migrates {
		all = append(all, m.Requires()...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Requires are the attestations that a migrate block asks for.
func (b Block) Requires() []string {
	var c struct {
		Requires []string `json:"requires"`
	}
	if b.Type == "migrate" {
		_ = json.Unmarshal(b.Config, &c)
	}
	return c.Requires
}

// Revision of the service.
func (s Service) Revision() Revision {
	r := Revision{Version: s.Release.Version, Digest: s.Release.Digest, Spec: s.SpecHash, Attempt: s.Release.Attempt}
	if r.Attempt == 1 {
		r.Attempt = 0
	}
	return r
}

// Release is the one block that pipelines write.
type Release struct {
	Version string `json:"version"`
	// Digest is the digest for this host's platform: "sha256:<64 hex>",
	// "git:<commit>", or empty where the installer has signatures of its own.
	Digest  string `json:"digest,omitempty"`
	Attempt int    `json:"attempt,omitempty"` // at least 1 once loaded
	Origin  Origin `json:"origin"`
}

// Dir is the directory name of a release below an install path's releases/:
// "<version>-<first 12 characters of the digest's hex>", or the version alone
// where there is no digest.
func (r Release) Dir() string {
	_, hex, ok := strings.Cut(r.Digest, ":")
	if !ok || hex == "" {
		return r.Version
	}
	return r.Version + "-" + hex[:min(12, len(hex))]
}

// Artifact is where a release is downloaded from.
type Artifact struct {
	Source  string          `json:"source"`
	Mirrors []string        `json:"mirrors,omitempty"`
	Headers map[string]Text `json:"headers,omitempty"` // for Source only
	Origin  Origin          `json:"origin"`
}

// Text is a string that may instead name a credential, which is read on the
// host when its step runs. In JSON it is a string or {"credential": "name"}.
type Text struct {
	Value      string
	Credential string
}

// String never shows a credential's content: it does not have it.
func (t Text) String() string {
	if t.Credential != "" {
		return fmt.Sprintf("credential(%q)", t.Credential)
	}
	return t.Value
}

// MarshalJSON as documented on Text.
func (t Text) MarshalJSON() ([]byte, error) {
	if t.Credential != "" {
		return json.Marshal(map[string]string{"credential": t.Credential})
	}
	return json.Marshal(t.Value)
}

// UnmarshalJSON as documented on Text.
func (t *Text) UnmarshalJSON(data []byte) error {
	*t = Text{}
	if len(data) > 0 && data[0] == '{' {
		var c struct {
			Credential string `json:"credential"`
		}
		if err := json.Unmarshal(data, &c); err != nil {
			return err
		}
		t.Credential = c.Credential
		return nil
	}
	return json.Unmarshal(data, &t.Value)
}

// Duration is a time.Duration that reads and writes Go's notation ("90s").
type Duration time.Duration

// String is Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText is Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads Go's notation.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Block is one block that a driver carries out: drain, install, migrate,
// start, check, or run (a hook, whose Driver is its name).
type Block struct {
	Type   string `json:"type"`
	Driver string `json:"driver"`
	Label  string `json:"label,omitempty"` // the second label, which tells two of a kind apart

	// Config is the block's attributes as one JSON object with sorted keys and
	// all defaults filled in: durations in Go's notation, credentials as [Text]
	// writes them. Two blocks ask for the same if Type, Driver, Label and
	// Config are the same bytes.
	Config json.RawMessage `json:"config"`
	Origin Origin          `json:"origin"`

	// Ranges is where each attribute was written; not kept by a journal.
	Ranges map[string]hcl.Range `json:"-"`
}

// ID is "drain/haproxy", or "drain/haproxy.lb2" with a second label.
func (b Block) ID() string {
	id := b.Type + "/" + b.Driver
	if b.Label != "" {
		id += "." + b.Label
	}
	return id
}

// Same reports whether both ask for the same; where they are written does not matter.
func (b Block) Same(other Block) bool {
	return b.ID() == other.ID() && string(b.Config) == string(other.Config)
}

// Decode fills a driver's own struct, whose fields carry `json` tags named as
// the language's attributes. An attribute that the struct does not know is an
// error: a driver and its schema have come apart.
func (b Block) Decode(into any) error {
	dec := json.NewDecoder(strings.NewReader(string(b.Config)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%s %q: %w", b.Type, b.Driver, err)
	}
	return nil
}

// InstallPath is the install block's path, or "" for installers without one.
func (s Service) InstallPath() string {
	if s.Install == nil {
		return ""
	}
	var c struct {
		Path string `json:"path"`
	}
	_ = json.Unmarshal(s.Install.Config, &c)
	return c.Path
}

// ReleaseDir is the absolute directory of this release on the host, or "" for
// installers that have none.
func (s Service) ReleaseDir() string {
	p := s.InstallPath()
	if p == "" {
		return ""
	}
	return path.Join(p, "releases", s.Release.Dir())
}

// Share is a number of hosts or a share of them; exactly one is not zero.
// In the language and in JSON: "3", or "25%".
type Share struct {
	Count   int
	Percent int
}

// String as in the language.
func (s Share) String() string {
	if s.Percent != 0 {
		return fmt.Sprintf("%d%%", s.Percent)
	}
	return fmt.Sprint(s.Count)
}

// MarshalText as in the language.
func (s Share) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText as in the language.
func (s *Share) UnmarshalText(text []byte) error {
	*s = Share{}
	_, err := fmt.Sscanf(strings.TrimSuffix(string(text), "%"), "%d", &s.Count)
	if strings.HasSuffix(string(text), "%") {
		s.Count, s.Percent = 0, s.Count
	}
	return err
}

// Rollout is how a revision goes over its hosts.
type Rollout struct {
	MaxParallel     Share    `json:"max_parallel"`
	Canary          int      `json:"canary"`
	Bake            Duration `json:"bake"`
	MinHealthyTime  Duration `json:"min_healthy_time"`
	HealthyDeadline Duration `json:"healthy_deadline"`
	AutoRevert      bool     `json:"auto_revert"`
	Splay           Duration `json:"splay"`
	Windows         []Window `json:"windows,omitempty"`

	// Written names the attributes that somebody wrote; defaults that nobody
	// wrote bind nothing on a host without coordination.
	Written []string `json:"written,omitempty"`
	Origin  Origin   `json:"origin"`
}

// Window is a time in which rollouts may begin. From after To spans midnight.
type Window struct {
	Days   []string `json:"days"` // "mon" … "sun"; empty is every day
	From   string   `json:"from"` // "09:00"
	To     string   `json:"to"`
	Zone   string   `json:"zone"` // IANA name, default "UTC"
	Origin Origin   `json:"origin"`
}

// Approval is who must sign a release.
type Approval struct {
	Required int      `json:"required"`
	From     []string `json:"from"`
	Authors  bool     `json:"authors"`
	Origin   Origin   `json:"origin"`
}

// Batch is when waiting inventory counts as overdue.
type Batch struct {
	MaxChanges int      `json:"max_changes"`
	MaxAge     Duration `json:"max_age"`
	Origin     Origin   `json:"origin"`
}

// Freeze stops new rollouts of some services (none named: all) for a time.
type Freeze struct {
	Reason   string    `json:"reason"`
	Services []string  `json:"services,omitempty"`
	From     time.Time `json:"from,omitzero"` // zero: no bound on that side
	Until    time.Time `json:"until,omitzero"`
	Origin   Origin    `json:"origin"`
}

// Override lets services pass gates for a time.
type Override struct {
	Reason   string    `json:"reason"`
	Services []string  `json:"services,omitempty"`
	Skip     []string  `json:"skip"` // "window", "freeze", "bake", "approval-expiry"
	Until    time.Time `json:"until"`
	Origin   Origin    `json:"origin"`
}

// Skips reports whether it lets a service pass a gate at a time.
func (o Override) Skips(gate, service string, now time.Time) bool {
	return slices.Contains(o.Skip, gate) && now.Before(o.Until) &&
		(len(o.Services) == 0 || slices.Contains(o.Services, service))
}

// Removed says that a service is to be stopped and uninstalled on this host.
type Removed struct {
	Name   string `json:"name"`
	Spec   string `json:"spec"` // 64 hex digits over the block, as a service's SpecHash
	Origin Origin `json:"origin"`
}

// Moved says that a service has a new name.
type Moved struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Origin Origin `json:"origin"`
}

// Resolved is what a person found out of a migration whose outcome was unknown.
type Resolved struct {
	Service string `json:"service"`
	Release string `json:"release"` // the version
	Outcome string `json:"outcome"` // "applied", "not-applied"
	Origin  Origin `json:"origin"`
}

// Wanted is what one host should run by one commit.
type Wanted struct {
	Commit   string
	Host     Host
	Services []Service // for this host, sorted by name; the held ones are not among them

	// Held are services for this host whose declaration has errors, or that
	// depend on one that has: they stay at their last good declaration.
	Held map[string]hcl.Diagnostics

	// Names are all services of the environment, for this host or not.
	Names     map[string]bool
	Freezes   []Freeze
	Overrides []Override
	Removed   []Removed
	Moved     []Moved
	Resolved  []Resolved
}

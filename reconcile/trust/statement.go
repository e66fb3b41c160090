package trust

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"drydock/spec"
)

// Kind is what a statement says.
type Kind string

// The kinds. What else people sign for, they sign as a commit: vouch, override
// and heartbeat are commits, and need no statement.
const (
	Approval     Kind = "approval"    // a release of a service, or a change of its spec, may be installed
	Attestation  Kind = "attestation" // something that no machine can see is true
	Removal      Kind = "removed"     // a service may be stopped and uninstalled
	AgentRelease Kind = "hostagent"   // a release of the agent itself may be installed
)

// AgentName stands for the agent where a service's name would. A service may
// have the same name: the kinds tell their statements apart.
const AgentName = "hostagent"

// format is of the statement's text. A reader takes its own only: a later one
// may say more, and what is not understood is not agreed to.
const format = "1"

// maxStatement holds a digest for each of some eighty platforms.
const maxStatement = 8 << 10

// A Subject is what a statement is about.
type Subject struct {
	Environment string
	Service     string // or AgentName
	Version     string // "" for a Removal
	Digest      string // as DigestOf has it; "" for a Removal
	Spec        string // 64 hex digits over the declaration: the service's SpecHash, or of the removed or hostagent block
}

// A Statement is what a person signs.
type Statement struct {
	Kind Kind
	Subject
	Name    string    // of what an Attestation attests; "" for every other kind
	Expires time.Time // in UTC and whole seconds; from then on it counts no longer
}

var (
	wordOfName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	wordOfVersion  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+~_-]{0,127}$`)
	wordOfSpec     = regexp.MustCompile(`^[0-9a-f]{64}$`)
	wordOfDigest   = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|git:([0-9a-f]{40}|[0-9a-f]{64}))$`)
	wordOfPlatform = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)
)

const noDigest = "-"

// DigestOf is a release's digest in the one form that statements have: the
// digest itself; for several platforms "linux/amd64=sha256:… linux/arm64=…",
// sorted; "-" where the installer has signatures of its own.
func DigestOf(c spec.Change) string {
	if len(c.Digests) == 0 {
		return cmp.Or(c.Digest, noDigest)
	}
	var list []string
	for _, p := range slices.Sorted(maps.Keys(c.Digests)) {
		list = append(list, p+"="+c.Digests[p])
	}
	return strings.Join(list, " ")
}

// checkDigest holds a digest to the form of DigestOf.
func checkDigest(digest string) error {
	if digest == noDigest || wordOfDigest.MatchString(digest) {
		return nil
	}
	last := ""
	for one := range strings.SplitSeq(digest, " ") {
		platform, d, ok := strings.Cut(one, "=")
		if !ok || !wordOfPlatform.MatchString(platform) || !wordOfDigest.MatchString(d) {
			return fmt.Errorf("%q is no digest", clip(one))
		}
		if platform <= last {
			return fmt.Errorf("the platform %s stands twice, or not in order", clip(platform))
		}
		last = platform
	}
	return nil
}

// field is one line of a statement: "<key>: <value>".
type field struct {
	key string
	of  *string
	ok  func(string) bool
}

// fields are the lines of a statement of the kind, in order.
func (s *Statement) fields(expires *string) []field {
	all := []field{
		{"environment", &s.Environment, func(v string) bool { return environmentName.MatchString(v) && v != "approvals" }},
		{"service", &s.Service, wordOfName.MatchString},
	}
	if s.Kind == Attestation {
		all = append(all, field{"attests", &s.Name, wordOfName.MatchString})
	}
	if s.Kind != Removal {
		all = append(all, field{"version", &s.Version, wordOfVersion.MatchString},
			field{"digest", &s.Digest, func(v string) bool { return checkDigest(v) == nil }})
	}
	return append(all, field{"spec", &s.Spec, wordOfSpec.MatchString}, field{"expires", expires, isMoment})
}

func isMoment(v string) bool {
	t, err := time.Parse(time.RFC3339, v)
	return err == nil && t.UTC().Format(time.RFC3339) == v && t.Year() >= 2000 && t.Year() <= 9999
}

// Check says why a statement cannot be signed.
func (s Statement) Check() error {
	if !slices.Contains([]Kind{Approval, Attestation, Removal, AgentRelease}, s.Kind) {
		return fmt.Errorf("there is no kind of statement %q", clip(string(s.Kind)))
	}
	if !s.Expires.Equal(s.Expires.Truncate(time.Second)) || s.Expires.Location() != time.UTC {
		return fmt.Errorf("it expires at %s, which is not in UTC and whole seconds", s.Expires)
	}
	expires := s.Expires.Format(time.RFC3339)
	for _, f := range s.fields(&expires) {
		if !f.ok(*f.of) {
			return fmt.Errorf("its %s %q cannot be one", f.key, clip(*f.of))
		}
	}
	switch {
	case s.Kind == AgentRelease && s.Service != AgentName:
		return fmt.Errorf("it is on the agent, and names the service %q", clip(s.Service))
	case s.Kind != Attestation && s.Name != "":
		return fmt.Errorf("it is no attestation, and attests %q", clip(s.Name))
	case s.Kind == Removal && (s.Version != "" || s.Digest != ""):
		return errors.New("it is on a removal, which has no version and no digest")
	}
	if n := len(s.text()); n > maxStatement {
		return fmt.Errorf("it has %d bytes, and %d is the limit", n, maxStatement)
	}
	return nil
}

// Text is the statement as it is signed: these bytes and no others. It is of a
// statement that passes Check.
//
//	drydock approval 1
//	environment: prod
//	service: web
//	version: 1.4.2
//	digest: sha256:9f86…
//	spec: 60303ae2…
//	expires: 2026-12-22T12:00:00Z
//
// An attestation has "attests: <name>" after the service, a removal neither
// version nor digest.
func (s Statement) Text() ([]byte, error) {
	if err := s.Check(); err != nil {
		return nil, fmt.Errorf("nobody can sign this statement: %w", err)
	}
	return s.text(), nil
}

func (s Statement) text() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "drydock %s %s\n", s.Kind, format)
	expires := s.Expires.Format(time.RFC3339)
	for _, f := range s.fields(&expires) {
		fmt.Fprintf(&b, "%s: %s\n", f.key, *f.of)
	}
	return b.Bytes()
}

// ParseStatement reads the text of one statement, and takes only what Text
// prints: every statement has one form, so that nobody reads in it what nobody
// signed.
func ParseStatement(text []byte) (Statement, error) {
	if len(text) > maxStatement {
		return Statement{}, fmt.Errorf("the statement has %d bytes, and %d is the limit", len(text), maxStatement)
	}
	for i, c := range text {
		if c != '\n' && (c < ' ' || c > '~') {
			return Statement{}, fmt.Errorf("the statement's byte %d is %#02x, and only ASCII that can be seen stands in one", i, c)
		}
	}
	rest := string(text)
	line := func() (string, bool) {
		l, r, ok := strings.Cut(rest, "\n")
		rest = r
		return l, ok
	}
	first, _ := line()
	kind, ok := strings.CutPrefix(first, "drydock ")
	kind, is, _ := strings.Cut(kind, " ")
	if !ok || is == "" {
		return Statement{}, fmt.Errorf("the first line %q is no statement's; it would be \"drydock approval %s\"", clip(first), format)
	}
	if is != format {
		return Statement{}, fmt.Errorf("the statement is of format %q, and this version of Drydock knows %s; sign it with this version, or bring this one up to date", clip(is), format)
	}
	s, expires := Statement{Kind: Kind(kind)}, ""
	for _, f := range s.fields(&expires) {
		l, ended := line()
		v, ok := strings.CutPrefix(l, f.key+": ")
		if !ok || !ended {
			return Statement{}, fmt.Errorf("the statement has %q where \"%s: …\" stands", clip(l), f.key)
		}
		*f.of = v
	}
	if rest != "" {
		return Statement{}, fmt.Errorf("the statement goes on after it expires: %q", clip(rest))
	}
	if !isMoment(expires) {
		return Statement{}, fmt.Errorf("the statement expires at %q, which is no time such as 2026-12-22T12:00:00Z", clip(expires))
	}
	s.Expires, _ = time.Parse(time.RFC3339, expires)
	if err := s.Check(); err != nil {
		return Statement{}, fmt.Errorf("the statement cannot be one: %w", err)
	}
	return s, nil
}

// String names a statement for people: "approval of web 1.4.2 in prod".
func (s Statement) String() string {
	switch s.Kind {
	case Attestation:
		return fmt.Sprintf("attestation of %s for %s", s.Name, s.Subject)
	case Removal:
		return fmt.Sprintf("approval to remove %s", s.Subject)
	case AgentRelease:
		return fmt.Sprintf("approval of the agent's release %s in %s", s.Version, s.Environment)
	}
	return fmt.Sprintf("%s of %s", s.Kind, s.Subject)
}

// String is "web 1.4.2 in prod".
func (s Subject) String() string {
	return strings.TrimSpace(shown(s.Service)+" "+shown(s.Version)) + " in " + shown(s.Environment)
}

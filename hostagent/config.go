package hostagent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"drydock/spec"
)

// DefaultState is the state directory of a host that names none.
const DefaultState = "/var/lib/drydock"

// Config is the host's own file, hostagent.hcl, with every default filled in.
type Config struct {
	Host        spec.Host // Environment is the config's
	Parallel    int       // services out of rotation at once; at least 1
	Source      SourceConfig
	Trust       *TrustConfig // nil: no trust block
	Alone       bool         // coordinate "alone": declared the only host there is
	State       string       // absolute
	Credentials []string     // directories, in the order in which they are looked into
	Listen      string       // host:port for metrics, or "" for none

	// Files are those whose change is a change of configuration: the file
	// itself and what it names.
	Files []string
}

// SourceConfig is the source block.
type SourceConfig struct {
	URL        string
	Mirrors    []string
	Branch     string
	Poll       time.Duration
	Token      spec.Text // a credential, or empty
	SSHKey     string
	KnownHosts string
	CA         string
}

const (
	maxConfigFile = 256 << 10
	minPoll       = time.Second
	maxPoll       = 24 * time.Hour
	maxParallel   = 1000
)

var (
	hostName        = word{regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`), 253}
	environmentName = word{regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`), 64}
	labelName       = word{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`), 128}
	branchName      = word{regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`), 250}
)

// word is a pattern with a longest length beside it: {0,251} in the pattern
// would be compiled into 251 copies, by every start of every command.
type word struct {
	pattern *regexp.Regexp
	most    int // bytes
}

// MatchString reports whether s is such a word.
func (w word) MatchString(s string) bool { return len(s) <= w.most && w.pattern.MatchString(s) }

// String says both, for errors.
func (w word) String() string { return fmt.Sprintf("%s, in at most %d letters", w.pattern, w.most) }

// LoadConfig reads the host's own file. What this build does not carry out yet
// (coordinate "etcd") is an error, never ignored: it may be what makes
// a deployment safe. The directory in the environment variable
// CREDENTIALS_DIRECTORY, which systemd sets, comes before that of credentials.
func LoadConfig(path string) (Config, hcl.Diagnostics) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, fileProblem(path, err, missing(err))
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	if err != nil {
		return Config{}, fileProblem(path, err, "It must be a file that this user may read.")
	}
	hostname, _ := os.Hostname()
	return parseConfig(path, src, hostname, os.Getenv("CREDENTIALS_DIRECTORY"))
}

// example is where the packages put a hostagent.hcl to begin with.
const example = "/usr/share/doc/hostagent/examples/hostagent.hcl"

func missing(err error) string {
	if !errors.Is(err, fs.ErrNotExist) {
		return "It must be a file that this user may read; or name another with --config."
	}
	return "Provisioning writes it. One to begin with is " + example + ", and `man hostagent.hcl` has every word of it. Another file is named with --config."
}

// fileProblem has no Subject: there is no line to show.
func fileProblem(path string, err error, hint string) hcl.Diagnostics {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: "Cannot read the configuration",
		Detail: fmt.Sprintf("%s: %v. %s", path, err, hint)}}
}

func parseConfig(path string, src []byte, hostname, credentials string) (Config, hcl.Diagnostics) {
	if diags := spec.Guard(path, src); diags.HasErrors() {
		return Config{}, diags
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		return Config{}, diags
	}
	c := Config{
		Host:     spec.Host{Name: hostname, OS: runtime.GOOS, Arch: runtime.GOARCH, Labels: map[string]string{}},
		Parallel: 2, State: DefaultState,
		Source: SourceConfig{Branch: "main", Poll: 60 * time.Second},
	}
	d := &configDecoder{path: path, config: &c}
	d.body(d.top(), file.Body.(*hclsyntax.Body), "")
	if d.diags.HasErrors() {
		return Config{}, d.diags
	}
	for _, dir := range []string{credentials, d.credentials} {
		if dir != "" && !slices.Contains(c.Credentials, dir) {
			c.Credentials = append(c.Credentials, dir)
		}
	}
	d.finish(file.Body.(*hclsyntax.Body).MissingItemRange())
	c.Files = append(c.Files, path)
	for _, p := range append([]string{c.Source.SSHKey, c.Source.KnownHosts, c.Source.CA}, c.Trust.files()...) {
		if p != "" {
			c.Files = append(c.Files, p)
		}
	}
	return c, d.diags
}

// configSection is a body's schema: what may stand in it and where it goes.
type configSection struct {
	required []string
	attrs    map[string]func(*hclsyntax.Attribute)
	blocks   map[string]configBlock
}

type configBlock struct {
	labels   int
	section  func(labels []string, at hcl.Range) *configSection // nil result: do not look inside
	required bool
	many     bool // it may stand more than once
}

func (d *configDecoder) top() *configSection {
	c := d.config
	return &configSection{
		required: []string{"environment"},
		attrs: map[string]func(*hclsyntax.Attribute){
			"environment": d.matching(&c.Host.Environment, environmentName, "the name of a folder of the repository"),
			"state":       d.absolute(&c.State),
			"credentials": d.absolute(&d.credentials),
			"listen":      d.listen,
		},
		blocks: map[string]configBlock{
			"host":       {section: func([]string, hcl.Range) *configSection { return d.host() }},
			"source":     {required: true, section: func([]string, hcl.Range) *configSection { return d.source() }},
			"trust":      {section: func(_ []string, at hcl.Range) *configSection { return d.trust(at) }},
			"coordinate": {labels: 1, section: d.coordinate},
		},
	}
}

func (d *configDecoder) host() *configSection {
	return &configSection{attrs: map[string]func(*hclsyntax.Attribute){
		"name":     d.matching(&d.config.Host.Name, hostName, "a host name"),
		"labels":   d.labels,
		"parallel": d.parallel,
	}}
}

func (d *configDecoder) source() *configSection {
	s := &d.config.Source
	return &configSection{required: []string{"url"}, attrs: map[string]func(*hclsyntax.Attribute){
		"url":         d.sourceURL,
		"mirrors":     d.mirrors,
		"branch":      d.matching(&s.Branch, branchName, "a branch"),
		"poll":        d.poll,
		"token":       d.token,
		"ssh_key":     d.absolute(&s.SSHKey),
		"known_hosts": d.absolute(&s.KnownHosts),
		"ca":          d.absolute(&s.CA),
	}}
}

func (d *configDecoder) coordinate(labels []string, at hcl.Range) *configSection {
	switch labels[0] {
	case "alone":
		d.config.Alone = true
		return &configSection{}
	case "etcd":
		d.unbuilt(at, `coordinate "etcd"`, "coordination of several hosts. Without it this host would take no slot before a drain")
	default:
		d.problem(at, "Unknown coordination", "%q is not one.%s", labels[0], spec.DidYouMean(labels[0], []string{"alone", "etcd"}))
	}
	return nil
}

func (d *configDecoder) unbuilt(at hcl.Range, what, why string) {
	d.problem(at, "Not built yet", "This version refuses to start with %s, because it cannot carry out %s. Install a version that can, or remove the block.", what, why)
}

// finish checks what only the whole shows.
func (d *configDecoder) finish(at hcl.Range) {
	if !hostName.MatchString(d.config.Host.Name) {
		d.problem(at, "No host name", "The machine's host name %q cannot be used. Write `host { name = \"…\" }`.", d.config.Host.Name)
	}
	d.checkTrust()
	if t := d.config.Source.Token.Credential; t != "" && len(d.config.Credentials) == 0 {
		d.problem(at, "No credentials", "The source's token is credential(%q), but neither `credentials` nor $CREDENTIALS_DIRECTORY names a directory.", t)
	}
}

func (d *configDecoder) sourceURL(a *hclsyntax.Attribute) {
	if s, ok := d.str(a); ok {
		if err := checkSource(s); err != nil {
			d.problem(a.Expr.Range(), "Not a source", "%v", err)
			return
		}
		d.config.Source.URL = s
	}
}

func (d *configDecoder) mirrors(a *hclsyntax.Attribute) {
	list, ok := d.strings(a)
	for _, s := range list {
		if err := checkSource(s); err != nil {
			d.problem(a.Expr.Range(), "Not a source", "%v", err)
			ok = false
		}
	}
	if ok {
		d.config.Source.Mirrors = list
	}
}

// checkSource accepts https, ssh and git URLs, file URLs, absolute paths, and
// git's own user@host:path. A password in a URL would be shown by every status.
func checkSource(s string) error {
	if filepath.IsAbs(s) {
		return nil
	}
	if !strings.Contains(s, "://") {
		user, rest, at := strings.Cut(s, "@")
		host, p, colon := strings.Cut(rest, ":")
		if at && colon && p != "" && labelName.MatchString(user) && hostName.MatchString(host) {
			return nil
		}
		return fmt.Errorf("%q is neither a URL, an absolute path, nor user@host:path", s)
	}
	u, err := url.Parse(s)
	if err != nil {
		return fmt.Errorf("the URL cannot be read; write it as https://host/path")
	}
	if _, has := u.User.Password(); has {
		return fmt.Errorf("a password stands in the URL of %s; use token = credential(\"…\")", u.Host)
	}
	switch u.Scheme {
	case "https", "ssh", "git":
		if u.Host == "" {
			return fmt.Errorf("%q names no host", s)
		}
	case "file":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return fmt.Errorf("%q is no absolute file URL; write file:///path", s)
		}
	default:
		return fmt.Errorf("%q: the scheme %s is not supported; use https, ssh, git, file, or a path", s, u.Scheme)
	}
	return nil
}

func (d *configDecoder) poll(a *hclsyntax.Attribute) {
	s, ok := d.str(a)
	if !ok {
		return
	}
	v, err := time.ParseDuration(s)
	if err != nil || v < minPoll || v > maxPoll {
		d.problem(a.Expr.Range(), "Not an interval", "%q must be a duration such as \"60s\", between %s and %s.", s, minPoll, maxPoll)
		return
	}
	d.config.Source.Poll = v
}

func (d *configDecoder) listen(a *hclsyntax.Attribute) {
	s, ok := d.str(a)
	if !ok {
		return
	}
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		d.problem(a.Expr.Range(), "Not an address", "%q must be host:port, such as \"127.0.0.1:9745\".", s)
		return
	}
	d.config.Listen = s
}

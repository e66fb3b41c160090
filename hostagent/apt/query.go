package apt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"drydock/hostagent/argv"
	"drydock/reconcile"
)

// status is what dpkg says of a package.
type status struct {
	want    string // what people want of it: install, hold, deinstall …
	flag    string // ok, reinstreq
	state   string // installed, half-configured, config-files … ; "" is unknown to dpkg
	version string // with its epoch
}

// there reports whether files of the package are on the host.
func (s status) there() bool {
	return s.state != "" && s.state != "not-installed" && s.state != "config-files"
}

// good reports whether it is installed without any reservation.
func (s status) good() bool { return s.state == "installed" && s.flag == "ok" }

func (s status) String() string {
	if !s.there() {
		return "not installed"
	}
	return s.version + " and " + s.state
}

// held fails where a person said that the version must not change.
func (s status) held(pkg string) error {
	if s.want != "hold" {
		return nil
	}
	return reconcile.HostFault(fmt.Errorf("a person holds %s at %s (apt-mark hold)", pkg, s.version), fmt.Sprintf("`apt-mark unhold %s` lets it go", pkg))
}

// matches reports whether a full version is the one that a release names. A
// release's version has no epoch ("1:"), as no file name of a package has one,
// unless it is one that was found installed.
func matches(full, want string) bool {
	_, plain, epoch := strings.Cut(full, ":")
	return full == want || epoch && plain == want
}

// ask runs a command that changes nothing, on the spot.
func (w work) ask(ctx context.Context, args ...string) (string, error) {
	return argv.Run(ctx, reconcile.Env{}, reconcile.Step{Service: w.step.Service}, argv.Command{Argv: args, Dir: "/", Env: plainEnv, Timeout: time.Minute})
}

// plainEnv makes programs say the same everywhere, and ask nobody.
var plainEnv = []string{"LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "DEBIAN_PRIORITY=critical", "NEEDRESTART_SUSPEND=1", "APT_LISTCHANGES_FRONTEND=none"}

// status asks dpkg, unless nothing has changed since it was asked last: at rest
// a pass costs no process.
func (w work) status(ctx context.Context) (status, error) {
	at := dpkgAt()
	if s, ok := w.seen.get(w.Package, at); ok {
		return s, nil
	}
	s, err := w.askStatus(ctx)
	if err == nil && at == dpkgAt() {
		w.seen.put(w.Package, at, s)
	}
	return s, err
}

func (w work) askStatus(ctx context.Context) (status, error) {
	out, err := w.ask(ctx, "dpkg-query", "--show", "--showformat", `${db:Status-Want} ${db:Status-Eflag} ${db:Status-Status} ${Version}\n`, w.Package)
	var exit *argv.ExitError
	if errors.As(err, &exit) && exit.Code == 1 {
		return status{}, nil // dpkg has never heard of it
	}
	if err != nil {
		return status{}, reconcile.HostFault(err, "Mend dpkg on this host")
	}
	var best status
	for line := range strings.Lines(out) { // one an architecture
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		s := status{want: f[0], flag: f[1], state: f[2]}
		if len(f) > 3 {
			s.version = f[3]
		}
		if best.state == "" || s.there() && !best.there() {
			best = s
		}
	}
	return best, nil
}

// versions lists what the index has of the package, newest first.
func (w work) versions(ctx context.Context) ([]string, error) {
	out, err := w.ask(ctx, "apt-cache", "madison", w.Package)
	if err != nil {
		return nil, reconcile.HostFault(err, "Mend apt on this host (apt-get update)")
	}
	var all []string
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		f := strings.Split(line, "|")
		if len(f) < 3 || strings.TrimSpace(f[0]) != w.Package || strings.HasSuffix(strings.TrimSpace(f[2]), "Sources") {
			continue
		}
		if v := strings.TrimSpace(f[1]); !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
	return all, nil
}

// lookUp finds the full version in the index, which is brought up to date once
// if it does not have it.
func (w work) lookUp(ctx context.Context) (string, error) {
	all, err := w.versions(ctx)
	if err != nil {
		return "", err
	}
	if full := find(all, w.want); full != "" {
		return full, nil
	}
	updated := w.apt(ctx, "update", "update", "-o", "APT::Update::Error-Mode=any")
	if ctx.Err() != nil {
		return "", updated
	}
	if all, err = w.versions(ctx); err != nil {
		return "", err
	}
	if full := find(all, w.want); full != "" {
		return full, nil
	}
	text := fmt.Sprintf("the index has no package %s", w.Package)
	if len(all) > 0 {
		text = fmt.Sprintf("the index has no version %s of %s; it has %s", w.want, w.Package, strings.Join(all[:min(len(all), 10)], ", "))
	}
	if updated != nil {
		return "", reconcile.HostFault(fmt.Errorf("%s, and cannot be brought up to date: %w", text, updated), "See to the sources that it names; it is tried again")
	}
	return "", reconcile.HostFault(errors.New(text), fmt.Sprintf("Publish it, or correct this host's sources (apt-cache policy %s); it is tried again", w.Package))
}

func find(all []string, want string) string {
	for _, v := range all {
		if matches(v, want) {
			return v
		}
	}
	return ""
}

// changes are what apt-get would do.
type changes struct {
	install, upgrade, remove []string // "libweb 1.2", "libweb 1.1 -> 1.2", "libold"
}

// beside says what would happen to other packages than pkg.
func (c changes) beside(pkg string) string {
	var parts []string
	add := func(what string, list []string) {
		var others []string
		for _, l := range list {
			if name, _, _ := strings.Cut(l, " "); name != pkg {
				others = append(others, l)
			}
		}
		if len(others) > 0 {
			parts = append(parts, what+" "+strings.Join(others, ", "))
		}
	}
	add("also installs", c.install)
	add("also changes", c.upgrade)
	return strings.Join(parts, "; ")
}

// simulate asks apt-get what it would do, and refuses a removal of anything.
func (w work) simulate(ctx context.Context, what string) (changes, error) {
	out, err := w.ask(ctx, append([]string{"apt-get", "--simulate", "-q", "--allow-downgrades"}, append(options(), "install", what)...)...)
	if err != nil {
		return changes{}, reconcile.HostFault(fmt.Errorf("%s cannot be installed: %w", what, err), "Publish what it lacks, or put the host's packages right; it is tried again")
	}
	c := parseSimulation(out)
	if len(c.remove) > 0 {
		return c, reconcile.HostFault(fmt.Errorf("with %s, apt-get would remove %s; nothing that was not asked for is removed", what, strings.Join(c.remove, ", ")),
			"Publish a version that can stand beside it, or remove it by hand")
	}
	return c, nil
}

// simulateStep does so for what the step will do.
func (w work) simulateStep(ctx context.Context) (changes, error) {
	if w.step.Action != reconcile.Remove {
		what, err := w.source(ctx)
		if err != nil {
			return changes{}, err
		}
		return w.simulate(ctx, what)
	}
	out, err := w.ask(ctx, append([]string{"apt-get", "--simulate", "-q"}, append(options(), "remove", w.Package)...)...)
	if err != nil {
		return changes{}, reconcile.HostFault(err, "Put the host's packages right; it is tried again")
	}
	c := parseSimulation(out)
	var others []string
	for _, name := range c.remove {
		if name != w.Package {
			others = append(others, name)
		}
	}
	if len(others) > 0 {
		return c, reconcile.HostFault(fmt.Errorf("with %s, apt-get would remove %s; nothing that was not asked for is removed", w.Package, strings.Join(others, ", ")),
			"Remove what depends on it first, or keep the service")
	}
	return c, nil
}

// parseSimulation reads lines such as
//
//	Inst web [1.0] (2.0 acme:stable [amd64])
//	Remv libold [1.0]
func parseSimulation(out string) changes {
	var c changes
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch name := f[1]; f[0] {
		case "Remv":
			c.remove = append(c.remove, name)
		case "Inst":
			old, new := "", ""
			for _, word := range f[2:] {
				if v, ok := strings.CutPrefix(word, "("); ok {
					new = v
					break
				}
				old = strings.Trim(word, "[]")
			}
			if old == "" {
				c.install = append(c.install, name+" "+new)
			} else {
				c.upgrade = append(c.upgrade, name+" "+old+" -> "+new)
			}
		}
	}
	return c
}

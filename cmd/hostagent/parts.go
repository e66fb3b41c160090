package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/hcl/v2"

	"drydock/hostagent"
	"drydock/hostagent/apt"
	"drydock/hostagent/archive"
	"drydock/hostagent/binary"
	"drydock/hostagent/command"
	"drydock/hostagent/consul"
	"drydock/hostagent/durable"
	"drydock/hostagent/file"
	"drydock/hostagent/gitsource"
	"drydock/hostagent/gittree"
	"drydock/hostagent/haproxy"
	"drydock/hostagent/journal"
	"drydock/hostagent/nginx"
	"drydock/hostagent/proc"
	"drydock/hostagent/process"
	"drydock/hostagent/release"
	"drydock/hostagent/sql"
	"drydock/hostagent/systemd"
	"drydock/hostagent/tcp"
	"drydock/hostagent/web"
	"drydock/reconcile"
)

// parts are what one agent is put together from, for as long as its
// configuration holds.
type parts struct {
	config  hostagent.Config
	journal *journal.Journal
	source  *gitsource.Source
	agent   *hostagent.Agent
	log     *slog.Logger
	own     func() []hostagent.HostNeed // what the agent itself needs of the host
}

// hooks are told what happens; each may be nil.
type hooks struct {
	watch func(reconcile.Progressed)
	quiet bool // watch shows the records, the log need not
	// scratch is where journal and clone stand in place of the state directory,
	// for a look at a host that must leave nothing behind; "" for all else.
	scratch string
	poll    func(error)
	// migrating as hostagent.Options.Migrating.
	migrating func(service string, atMost time.Duration)
	pass      func(time.Duration, error)
	keys      *keys // read already; nil: assemble reads them
}

// files of the state directory.
const (
	journalFile = "journal.db"
	cloneDir    = "clone.git"
	pastFile    = "releases-past" // a cache
	driversDir  = "drivers"
)

// assemble makes the agent. With readOnly it changes nothing, takes no lock,
// and works beside a running agent.
func assemble(cfg hostagent.Config, f *flags, log *slog.Logger, readOnly bool, h hooks) (*parts, error) {
	home := cmp.Or(h.scratch, cfg.State)
	if !readOnly && h.scratch == "" {
		if err := os.MkdirAll(cfg.State, 0o700); err != nil {
			return nil, fmt.Errorf("the state directory: %w. Make it, or name another with `state` in %s", err, f.config)
		}
	}
	now, spread, boot := f.Now, f.Jitter, cmp.Or(f.Boot, bootID())
	if now == nil {
		now = time.Now
	}
	if spread == nil {
		spread = jitter
	}
	if h.keys == nil {
		var err error
		if h.keys, err = openKeys(cfg); err != nil {
			return nil, err
		}
	}
	credentials := hostagent.NewCredentials(f.secrets, cfg.Credentials...)
	follow := sourceOptions(cfg, credentials.Read)
	follow.Dir, follow.Now = filepath.Join(home, cloneDir), now
	source, err := gitsource.Open(follow)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Options{Path: filepath.Join(home, journalFile), Boot: boot, Now: now, ReadOnly: readOnly})
	if err != nil {
		_ = source.Close()
		return nil, err
	}
	if w := h.watch; f.Watch != nil {
		h.watch = func(p reconcile.Progressed) {
			f.Watch(p)
			if w != nil {
				w(p)
			}
		}
	}
	if why := f.shortfall(); why != "" && !readOnly {
		log.Warn("commands are confined less than they could be", "reason", why)
	}
	p := &parts{config: cfg, journal: j, source: source, log: log}
	p.own = func() []hostagent.HostNeed { return ownNeeds(cfg, credentials, now(), f.shortfall()) }
	var trusted *hostagent.Trust
	if cfg.Trust != nil {
		trusted = &hostagent.Trust{Policy: cfg.Trust.Policy, Keys: h.keys.ring, History: source.History(), Past: cacheFile(filepath.Join(home, pastFile))}
	}
	p.agent = hostagent.New(hostagent.Options{
		Host: cfg.Host, Parallel: cfg.Parallel, Alone: cfg.Alone, URL: cfg.Source.URL, Version: buildVersion().Version,
		Source: following{source, f.secrets.Scrub}, Trust: trusted, Journal: j, Drivers: drivers(cfg, reconcile.Env{
			Private: cfg.State, Sealed: sealed(cfg, f.config), Credential: credentials.Read, Note: noting(j, f.secrets),
			Brought: release.Brought(filepath.Join(cfg.State, driversDir)),
			Output:  func(s reconcile.Step) io.Writer { return outputLog{log, s, f.secrets} },
		}),
		Credential: credentials.Check, Scrub: func(text string) string { return plain(f.secrets.Scrub(text)) },
		Log: log, Now: now, Jitter: spread, Boot: boot,
		Rename: renaming(filepath.Join(cfg.State, driversDir)),
		Watch:  h.watch, Quiet: h.quiet, Polled: h.poll, Passed: h.pass, Migrating: h.migrating,
	})
	return p, nil
}

// sealed is what no command of a service has business with: the agent's state,
// its secrets, and where provisioning puts the agent's own files.
func sealed(cfg hostagent.Config, config string) []string {
	return append(slices.Clip(cfg.Credentials), cfg.State, cfg.Source.SSHKey, config, "/etc/drydock")
}

// Close lets go of journal and clone.
func (p *parts) Close() {
	if err := p.journal.Close(); err != nil {
		p.log.Error("the journal was not closed", "error", err)
	}
	_ = p.source.Close()
}

// drivers are all that this build has, each with a state directory of its own.
// A new one is one more line.
func drivers(cfg hostagent.Config, all reconcile.Env) *hostagent.Registry {
	env := func(name string) reconcile.Env {
		own := all
		own.StateDir = filepath.Join(cfg.State, driversDir, name)
		return own
	}
	r := &hostagent.Registry{}
	r.Add("drain", "file", file.New(env("file")))
	r.Add("drain", "http", web.NewDrain(env("http")))
	r.Add("drain", "command", command.NewDrain(env("command")))
	r.Add("drain", "haproxy", haproxy.New(env("haproxy")))
	r.Add("drain", "nginx", nginx.New(env("nginx")))
	r.Add("drain", "consul", consul.New(env("consul")))
	r.Add("install", "archive", archive.New(env("archive")))
	r.Add("install", "binary", binary.New(env("binary")))
	r.Add("install", "apt", apt.New(env("apt")))
	r.Add("install", "git", gittree.New(gittree.Options{Env: env("git"), Source: sourceOptions(cfg, all.Credential)}))
	r.Add("install", "command", command.NewInstall(env("command")))
	r.Add("migrate", "command", command.NewMigrate(env("migrate")))
	r.Add("migrate", "sql", sql.New(env("sql")))
	unit := systemd.New(env("systemd"))
	r.Add("start", "systemd", unit)
	r.AddCheck("systemd", unit.Check())
	r.Add("start", "process", process.New(env("process")))
	r.Add("start", "command", command.NewStart(env("start")))
	r.Add("run", "command", command.NewHook(env("run")))
	r.AddCheck("http", web.Check{})
	r.AddCheck("tcp", tcp.Check{})
	r.AddCheck("command", command.NewCheck(env("check")))
	return r
}

// noter is reconcile.Env.Note.
type noter func(ctx context.Context, s reconcile.Step, note string) error

func noting(j *journal.Journal, secrets *hostagent.Secrets) noter {
	return func(ctx context.Context, s reconcile.Step, note string) error {
		rec := reconcile.Record{Kind: reconcile.Noted, Service: s.Service, Step: s.ID, Phase: s.Phase, Reason: secrets.Scrub(note), Commits: s.Commits()}
		if s.Phase == reconcile.Migrate {
			rec.Block = &s.Block
		}
		_, err := j.Append(ctx, rec)
		return err
	}
}

// plain is text without what a terminal obeys: whatever answers an agent, from
// a load balancer to a database, may send it, and people read status in one.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

// renaming moves what each driver keeps of a service, a folder of its name.
func renaming(dir string) func(from, to string) error {
	return func(from, to string) error {
		olds, err := filepath.Glob(filepath.Join(dir, "*", from))
		if err != nil {
			return err
		}
		for _, old := range olds {
			new := filepath.Join(filepath.Dir(old), to)
			if _, err := os.Lstat(new); err == nil {
				return fmt.Errorf("%s and %s are both there; move one of them away", old, new)
			}
			if err := durable.Rename(old, new); err != nil {
				return err
			}
		}
		return nil
	}
}

// following is the git source as the agent wants it: what it says of a failure
// is without the token, should a server have repeated it.
type following struct {
	*gitsource.Source
	scrub func(string) string
}

func (s following) Head(ctx context.Context, accepted string) (hostagent.Snapshot, error) {
	snap, err := s.Source.Head(ctx, accepted)
	return hostagent.Snapshot(snap), reconcile.Scrubbed(err, s.scrub)
}

func (s following) At(ctx context.Context, commit string) (hostagent.Snapshot, error) {
	snap, err := s.Source.At(ctx, commit)
	return hostagent.Snapshot(snap), reconcile.Scrubbed(err, s.scrub)
}

func (s following) Accepted(context.Context) (string, error) { return s.Source.Accepted() }

// sourceOptions are where the repository is, and what opens it.
func sourceOptions(cfg hostagent.Config, credential func(string) (string, error)) gitsource.Options {
	return gitsource.Options{
		URL: cfg.Source.URL, Mirrors: cfg.Source.Mirrors, Branch: cfg.Source.Branch,
		Token: token(cfg, credential), SSHKey: cfg.Source.SSHKey, KnownHosts: cfg.Source.KnownHosts, CA: cfg.Source.CA,
	}
}

func token(cfg hostagent.Config, credential func(string) (string, error)) func() (string, error) {
	t := cfg.Source.Token
	if t.Credential == "" && t.Value == "" {
		return nil
	}
	return func() (string, error) {
		if t.Credential == "" {
			return t.Value, nil
		}
		return credential(t.Credential)
	}
}

// outputLog sends what a command printed to the log, line by line, without the
// secrets that it may have repeated.
type outputLog struct {
	log     *slog.Logger
	step    reconcile.Step
	secrets *hostagent.Secrets
}

func (o outputLog) Write(p []byte) (int, error) {
	for line := range strings.Lines(o.secrets.Scrub(string(p))) {
		o.log.Info("output", "service", o.step.Service, "step", o.step.ID, "line", strings.TrimRight(line, "\r\n"))
	}
	return len(p), nil
}

// jitter adds up to a tenth, so that a fleet that failed together does not try
// again together.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return d
	}
	return d + time.Duration(rand.Int64N(int64(d)/10+1))
}

// bootID names this boot of this host; one without /proc counts every start of
// the agent as the same boot.
func bootID() string {
	id, _ := proc.Boot()
	return id
}

// loadConfig prints what is wrong with the configuration, with its source.
func loadConfig(f *flags) (hostagent.Config, error) {
	cfg, diags := hostagent.LoadConfig(f.config)
	if diags.HasErrors() {
		printDiagnostics(f.Err, f.config, diags)
		goesOn(f)
		return cfg, exit(exitError)
	}
	return cfg, nil
}

func printDiagnostics(w io.Writer, path string, diags hcl.Diagnostics) {
	files := map[string]*hcl.File{}
	if src, err := os.ReadFile(path); err == nil {
		files[path] = &hcl.File{Bytes: src}
	}
	_ = hcl.NewDiagnosticTextWriter(w, files, 100, coloured(w)).WriteDiagnostics(diags)
}

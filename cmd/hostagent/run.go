package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"drydock/hostagent"
	"drydock/hostagent/api"
	"drydock/hostagent/metrics"
	"drydock/hostagent/notify"
	"drydock/hostagent/wake"
	"drydock/reconcile"
)

func runCommand(f *flags) *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run for ever: converge on every merge",
		Long: `run follows the repository and converges this host on every merge, until it is
told to stop. SIGTERM and SIGINT stop it at a safe point: what is out of
rotation comes back first. SIGHUP, and any change of its configuration file,
reads that file again. Services keep running while the agent does not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			systemd := notify.FromEnv(os.Getenv)
			for _, v := range notify.Variables() {
				_ = os.Unsetenv(v) // no child takes them for its own
			}
			return runForEver(cmd.Context(), f, systemd)
		},
	}
}

// runForEver runs one agent after another, a new one for each configuration.
func runForEver(ctx context.Context, f *flags, systemd *notify.Notifier) error {
	log := logger(f, true)
	cfg, err := loadConfig(f)
	if err != nil {
		return err
	}
	k, err := openKeys(cfg)
	if err != nil {
		return err
	}
	now := &configured{cfg, k}
	for {
		next, err := runOne(ctx, f, now, log, systemd)
		if err != nil || next == nil {
			_ = systemd.Stopping()
			return err
		}
		_ = systemd.Reloading()
		now = next
	}
}

// configured is a configuration with the keys that it names: both were good when
// they were read, and hold together until both are again.
type configured struct {
	hostagent.Config
	keys *keys
}

// runOne runs an agent until ctx ends (nil), or its configuration was changed
// into another valid one, which it returns.
func runOne(ctx context.Context, f *flags, now *configured, log *slog.Logger, systemd *notify.Notifier) (*configured, error) {
	cfg := now.Config
	var m *metrics.Metrics
	var files *wake.Waker
	var p *parts
	hooks := hooks{
		keys:  now.keys,
		watch: func(r reconcile.Progressed) { m.Watch(r) },
		migrating: func(service string, atMost time.Duration) {
			log.Warn("stopping waits for a migration", "service", service)
			_ = systemd.Status("stopping: waiting for the migration of " + service)
			_ = systemd.Extend(atMost)
		},
		poll: func(err error) { m.Polled(err) },
		pass: func(took time.Duration, err error) {
			m.Passed(took, err)
			_ = systemd.Status(summary(p.agent.Status(ctx)))
			if err := files.SetPaths(append(p.agent.Links(), refs(cfg.Source)...)); err != nil {
				log.Warn("not every change of a file wakes the agent; the poll still does", "error", err)
			}
		},
	}
	p, err := assemble(cfg, f, log, false, hooks)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	p.startAnew(ctx)
	m = metrics.New(metrics.Options{Version: buildVersion().Version, Agent: measured{p.agent}, Journal: p.journal})
	files = wake.New(wake.Options{Poll: cfg.Source.Poll, OnError: func(err error) { log.Debug("not watched", "error", err) }})
	defer files.Close()
	if err := files.SetPaths(append(p.agent.Links(), refs(cfg.Source)...)); err != nil {
		log.Warn("not every change of a file wakes the agent; the poll still does", "error", err)
	}
	config := wake.New(wake.Options{Signals: []os.Signal{syscall.SIGHUP}})
	defer config.Close()
	if err := config.SetPaths(cfg.Files); err != nil {
		log.Warn("a change of the configuration is only noticed by SIGHUP", "error", err)
	}

	socket, err := api.Listen(cfg.State, served{p.agent, p.own})
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(ctx)
	defer stop()
	g, run := errgroup.WithContext(run)
	life, ended := context.WithCancel(context.WithoutCancel(ctx))
	defer ended()
	var next *configured
	g.Go(socket.Serve)
	g.Go(func() error {
		// Socket and watchdog answer until the last plan has come to its end.
		defer ended()
		defer closing(socket.Close)
		defer stop()
		return p.agent.Run(run, files.C())
	})
	if cfg.Listen != "" {
		server, err := metrics.Listen(run, cfg.Listen, m.Handler())
		if err != nil {
			stop()
			return nil, errors.Join(err, g.Wait())
		}
		log.Info("metrics", "listen", server.Addr())
		g.Go(server.Serve)
		g.Go(func() error {
			<-run.Done()
			closing(server.Close)
			return nil
		})
	}
	g.Go(func() error {
		next = reconfigured(run, config.C(), f, now, log, p.agent)
		if next != nil {
			stop()
		}
		return nil
	})
	g.Go(func() error {
		systemd.Watchdog(life, p.agent.Healthy)
		return nil
	})
	log.Info("following", "url", cfg.Source.URL, "branch", cfg.Source.Branch, "environment", cfg.Host.Environment, "host", cfg.Host.Name, "verified", cfg.Trust != nil)
	_ = systemd.Ready()
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	if ctx.Err() != nil {
		next = nil
	}
	return next, err
}

func closing(f func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = f(ctx)
}

// reconfigured waits until the configuration, or the keys that it names, differ
// and are valid. What is not leaves the old ones in force: a file that does not
// read must never be the end of trust.
func reconfigured(ctx context.Context, wakes <-chan struct{}, f *flags, now *configured, log *slog.Logger, a *hostagent.Agent) *configured {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wakes:
		}
		next, diags := hostagent.LoadConfig(f.config)
		var k *keys
		var err error
		if !diags.HasErrors() {
			k, err = openKeys(next)
		}
		a.Unread("")
		refuse := func(what, why string) {
			a.Unread(what + ": " + why)
			log.Error(what, "error", why)
		}
		switch {
		case diags.HasErrors():
			refuse("the configuration was changed and has errors; the old one stays in force", diags.Error())
		case err != nil:
			refuse("the configuration names keys that cannot be used; the old configuration and the old keys stay in force", err.Error())
		case next.State != now.State:
			refuse("state was changed, which takes a new start of the agent", fmt.Sprintf("stop it, move %s to %s, and start it", now.State, next.State))
		case !reflect.DeepEqual(next, now.Config) || !k.same(now.keys):
			log.Info("the configuration was changed")
			if now.Trust != nil && next.Trust == nil {
				log.Warn("the trust block was taken out: from now on every commit that follows is accepted, whoever made it")
			}
			return &configured{next, k}
		}
		a.Nudge()
	}
}

// refs are the files by which a repository on this machine shows a push.
func refs(s hostagent.SourceConfig) []string {
	dir := s.URL
	if u, err := url.Parse(s.URL); err == nil && u.Scheme == "file" {
		dir = u.Path
	}
	if !filepath.IsAbs(dir) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		dir = filepath.Join(dir, ".git")
	}
	return []string{filepath.Join(dir, "packed-refs"), filepath.Join(dir, "refs/heads", strings.TrimPrefix(s.Branch, "refs/heads/"))}
}

// summary is one line for systemctl status.
func summary(st reconcile.HostStatus) string {
	count := map[reconcile.State]int{}
	for _, s := range st.Services {
		count[s.State]++
	}
	var words []string
	for s := reconcile.Converged; s <= reconcile.Orphaned; s++ {
		if count[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	line := fmt.Sprintf("%.7s: %s", st.Commit, strings.Join(words, ", "))
	if st.Source.Error != "" {
		line += "; source: " + st.Source.Error
	}
	return line
}

// logger writes to stderr: all that happens for a running agent, only what is
// wrong for a command, which shows its steps itself. Secrets that were read do
// not come into it, whoever logs.
func logger(f *flags, running bool) *slog.Logger {
	level := slog.LevelWarn
	if running {
		level = slog.LevelInfo
	}
	if os.Getenv("DRYDOCK_DEBUG") != "" {
		level = slog.LevelDebug
	}
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr { return scrubbed(a, f.secrets) }}
	if f.output == "json" {
		return slog.New(slog.NewJSONHandler(f.Err, o))
	}
	return slog.New(slog.NewTextHandler(f.Err, o))
}

func scrubbed(a slog.Attr, secrets *hostagent.Secrets) slog.Attr {
	v := a.Value.Resolve()
	if v.Kind() != slog.KindString && v.Kind() != slog.KindAny {
		return a
	}
	text := v.String() // what a handler would print of an error or any other value
	if clean := secrets.Scrub(text); clean != text {
		a.Value = slog.StringValue(clean)
	}
	return a
}

// startAnew finds again what a journal that had to be begun anew forgot.
func (p *parts) startAnew(ctx context.Context) {
	r := p.journal.Rebuilt()
	if r == nil {
		return
	}
	p.log.Error("the journal was corrupt and is rebuilt from disk and git", "cause", r.Cause, "aside", r.Aside)
	if err := p.agent.Rebuild(ctx); err != nil {
		p.log.Error("not rebuilt yet; it is tried again at the next start", "error", err)
		return
	}
	if err := p.journal.RebuildDone(ctx); err != nil {
		p.log.Error("the journal", "error", err)
	}
}

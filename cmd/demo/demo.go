package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// streams are where the demo reads and writes.
type streams struct {
	In       io.Reader
	Out, Err io.Writer
}

type options struct {
	fast   bool
	keep   bool
	bin    string
	output string
}

// The exit codes.
const (
	exitOK          = 0
	exitError       = 1 // also where the figures are not as promised
	exitInterrupted = 130
)

// Main runs one command line and returns its exit code.
func Main(ctx context.Context, args []string, s streams) int {
	var o options
	code := exitOK
	root := &cobra.Command{
		Use:   "demo",
		Short: "Show a version bump converge on a host while traffic flows",
		Long: `demo shows a version bump, a broken release and its revert, and the same bump
without drain, under constant requests. Everything is real and on loopback: git,
the agent, the service, an artifact server and a small proxy. It works in a
temporary directory that it removes.

Exit codes: 0 no request failed with drain, and some did without; 1 that is not
so, or an error; 130 interrupted.`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			if o.output != "text" && o.output != "json" {
				return fmt.Errorf("--output %q: it is text or json", o.output)
			}
			code = show(ctx, o, s)
			return nil
		},
	}
	root.SetArgs(args)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.Flags().BoolVar(&o.fast, "fast", false, "do not wait for keys")
	root.Flags().BoolVar(&o.keep, "keep", false, "leave the temporary directory, to look around in")
	root.Flags().StringVar(&o.bin, "bin", "", "use the hostagent and drydock in this `directory` instead of building them")
	root.Flags().StringVarP(&o.output, "output", "o", "text", "`text` for people; json prints the figures, and the story goes to stderr")
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(s.Err, "error:", err)
		return exitError
	}
	return code
}

// show tells the story and returns the exit code.
func show(ctx context.Context, o options, s streams) int {
	story := s.Out
	if o.output == "json" {
		story = s.Err
	}
	d := &demo{options: o, screen: newScreen(story), in: s.In}
	r, err := d.run(ctx)
	d.screen.Leave()
	switch {
	case ctx.Err() != nil:
		d.screen.Line()
		d.screen.Line("Stopped.")
		return exitInterrupted
	case err != nil:
		d.screen.Fail(err)
		return exitError
	}
	if o.output == "json" {
		enc := json.NewEncoder(s.Out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(r); err != nil {
			fmt.Fprintln(s.Err, "error:", err)
			return exitError
		}
	}
	if !r.OK {
		return exitError
	}
	return exitOK
}

// demo is all that takes part.
type demo struct {
	options
	screen *Screen
	in     io.Reader
	keys   chan struct{}

	dir, artifacts, drainFile string

	bin      binaries
	repo     *repository
	host     *host
	line     *lifeline
	proxyURL string
	servers  []*http.Server
}

const (
	rate    = 200 // requests a second
	holding = 10 * time.Second
)

// run sets the stage, plays the acts and clears up, in whatever way it ends.
func (d *demo) run(ctx context.Context) (r report, err error) {
	d.screen.Title("Drydock", "A version bump, a broken one, and one without drain: a real git repository, a real agent, a real process, and 200 requests a second.")
	if d.dir, err = os.MkdirTemp("", "drydock-demo-"); err != nil {
		return r, fmt.Errorf("the demo's directory: %w", err)
	}
	defer d.clear()
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if err := d.stage(ctx, following); err != nil {
		return r, d.explain(err)
	}
	r.OK = true
	for i, a := range story() {
		f, err := d.play(ctx, i+1, a)
		if err != nil {
			return r, d.explain(err)
		}
		r.Acts = append(r.Acts, f)
		r.OK = r.OK && f.asPromised()
	}
	d.tell(r)
	return r, nil
}

// clear ends everything that was started, in the order in which each can end
// well, and removes the directory.
func (d *demo) clear() {
	if d.host != nil {
		d.host.Stop(3 * time.Second)
	}
	if d.line != nil {
		d.line.Cut()
	}
	for _, s := range d.servers {
		_ = s.Close()
	}
	if d.keep {
		d.screen.Line("Left as it is: ", d.dir)
		return
	}
	remove(d.screen, d.dir)
}

// explain adds the agent's last words to an error.
func (d *demo) explain(err error) error {
	if d.host == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if tail := d.host.Tail(); tail != "" {
		err = fmt.Errorf("%w\nThe agent's last words:\n%s", err, tail)
	}
	return err
}

// stage builds what the acts need, and has web 1.0.0 deployed.
func (d *demo) stage(ctx, following context.Context) error {
	began := time.Now()
	step := func(what string) {
		d.screen.Done(what, time.Since(began))
		began = time.Now()
	}
	if err := d.binaries(ctx); err != nil {
		return err
	}
	if d.options.bin == "" {
		step("hostagent and drydock, built")
	}
	web, err := d.surroundings(following)
	if err != nil {
		return err
	}
	step("an artifact server and a proxy")
	if d.repo, err = newRepository(ctx, d.dir, web); err != nil {
		return err
	}
	step("a bare git repository, and a clone to work in")
	config := filepath.Join(d.dir, "hostagent.hcl")
	state := filepath.Join(d.dir, "state")
	if err := os.WriteFile(config, fmt.Appendf(nil, agentConfig, environment, d.repo.bare, state), 0o644); err != nil {
		return err
	}
	if d.host, err = startAgent(d.bin.hostagent, config, d.repo.env); err != nil {
		return err
	}
	if err := d.host.Ready(ctx); err != nil {
		return err
	}
	step("a host's agent, that follows the repository")
	if err := d.settle(ctx); err != nil {
		return err
	}
	step("web 1.0.0, deployed by the first commit")
	d.flush()
	return nil
}

// flush forgets the events of the deployment that no board shows.
func (d *demo) flush() {
	for {
		select {
		case <-d.host.events:
		default:
			return
		}
	}
}

func (d *demo) binaries(ctx context.Context) (err error) {
	if d.options.bin != "" {
		d.bin, err = readyBinaries(d.options.bin)
		return err
	}
	d.screen.Line(d.screen.paint(dim, "building hostagent and drydock …"))
	dir := filepath.Join(d.dir, "bin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	d.bin, err = buildBinaries(ctx, dir)
	if err == nil && d.screen.live {
		fmt.Fprint(d.screen.w, "\x1b[1A\r\x1b[K")
	}
	return err
}

// surroundings starts what is around the host, and returns web's declaration.
func (d *demo) surroundings(ctx context.Context) (web string, err error) {
	d.artifacts = filepath.Join(d.dir, "artifacts")
	d.drainFile = filepath.Join(d.dir, "rotation", "web")
	for _, dir := range []string{d.artifacts, filepath.Dir(d.drainFile)} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", err
		}
	}
	archive, err := pack(d.artifacts, release{Version: "1.0.0"})
	if err != nil {
		return "", err
	}
	digest, err := digestOf(archive)
	if err != nil {
		return "", err
	}
	store, err := d.listen(artifactServer(d.artifacts))
	if err != nil {
		return "", err
	}
	port, err := quietPort()
	if err != nil {
		return "", err
	}
	proxy := &Proxy{File: d.drainFile, Backend: net.JoinHostPort("127.0.0.1", port), Hold: holding, MaxHeld: rate * int(holding/time.Second), MaxOpen: 64, Every: 10 * time.Millisecond}
	front, err := d.listen(proxy.Handler(ctx))
	if err != nil {
		return "", err
	}
	d.proxyURL = "http://" + front + "/"
	if d.line, err = newLifeline(); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(declaration, digest, store, d.drainFile, filepath.Join(d.dir, "srv"), port, self, d.line.l.Addr(), filepath.Join(d.dir, "web.log")), nil
}

// listen serves a handler on a loopback address, until clear.
func (d *demo) listen(h http.Handler) (address string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	d.servers = append(d.servers, s)
	go func() { _ = s.Serve(l) }()
	return l.Addr().String(), nil
}

// newLoad asks the proxy as many clients would: no connection is shared by two
// requests at a time.
func (d *demo) newLoad() *Load {
	t := &http.Transport{MaxIdleConnsPerHost: rate, IdleConnTimeout: time.Second}
	return &Load{Rate: rate, Timeout: deadline, Ask: askWeb(&http.Client{Transport: t}, d.proxyURL)}
}

// quietPort is a port for the service from below the range that outgoing
// connections use: while the service is down, none of them may take its port.
func quietPort() (string, error) {
	var err error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			_, port, _ := net.SplitHostPort(address)
			return port, l.Close()
		}
	}
	return "", fmt.Errorf("no free port below 32000: %w", err)
}

// attended reports whether a person looks on who has time.
func (d *demo) attended() bool {
	_, keyboard := terminal(d.in)
	return keyboard && !d.fast && d.screen.live
}

// enter waits for the Enter key, where a person can read and press it.
func (d *demo) enter(ctx context.Context) error {
	if !d.attended() {
		return nil
	}
	if d.keys == nil {
		d.keys = make(chan struct{})
		go func() {
			lines := bufio.NewScanner(d.in)
			for lines.Scan() {
				d.keys <- struct{}{}
			}
			close(d.keys)
		}()
	}
	return d.screen.Ask("Enter goes on ", func() error {
		select {
		case <-d.keys:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
}

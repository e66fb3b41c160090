package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// event is a line of the agent's log, which is JSON.
type event struct {
	Time    time.Time `json:"time"`
	Message string    `json:"msg"`
	Service string    `json:"service"`
	Step    string    `json:"step"`
	Purpose string    `json:"purpose"`
	Why     string    `json:"why"`
	Error   string    `json:"error"`
}

// status is what the demo reads of `hostagent status --output json`.
type status struct {
	Commit   string          `json:"commit"`
	Services []serviceStatus `json:"services"`
}

type serviceStatus struct {
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Reason  string   `json:"reason"`
	Wanted  revision `json:"wanted"`
	Running revision `json:"running"`
}

type revision struct {
	Version string `json:"version"`
}

// plan is what the demo reads of `hostagent plan --output json`.
type plan struct {
	Steps []struct {
		ID     string `json:"id"`
		Action string `json:"action"`
		Origin string `json:"origin"`
	} `json:"steps"`
}

// host is a host's agent: the real binary, started with a configuration file.
type host struct {
	bin, config string
	log         *os.File
	events      chan event

	cmd  *exec.Cmd
	done chan struct{}

	mu   sync.Mutex
	tail []string // the log's last lines, to explain a failure
}

const tailLines = 12

// startAgent starts `hostagent run`. It ends with Stop only.
func startAgent(bin, config string, env []string) (*host, error) {
	file, err := os.Create(filepath.Join(filepath.Dir(config), "agent.log"))
	if err != nil {
		return nil, err
	}
	h := &host{bin: bin, config: config, log: file, events: make(chan event, 1024), done: make(chan struct{})}
	h.cmd = exec.Command(bin, "run", "--config", config, "--output", "json")
	// begun is a debug line; the log is the only place that has every step
	// the moment it begins.
	h.cmd.Env = append(env, "DRYDOCK_DEBUG=1")
	// A group of its own: a Ctrl-C is the demo's to answer, in its order.
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log, err := h.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := h.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go h.read(log)
	return h, nil
}

func (h *host) read(log io.Reader) {
	defer close(h.done)
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintln(h.log, lines.Text())
		h.mu.Lock()
		h.tail = append(h.tail, lines.Text())
		h.tail = h.tail[max(len(h.tail)-tailLines, 0):]
		h.mu.Unlock()
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Service == "" {
			continue
		}
		select {
		case h.events <- e:
		default: // nobody reads while nothing is expected
		}
	}
	_ = h.cmd.Wait()
	_ = h.log.Close()
}

// Stop ends the agent: politely, then not.
func (h *host) Stop(grace time.Duration) {
	_ = h.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-h.done:
	case <-timer.C:
		_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
		<-h.done
	}
}

// Tail is the end of the agent's log.
func (h *host) Tail() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.tail, "\n")
}

// ask runs one of hostagent's commands against the running agent.
func (h *host) ask(ctx context.Context, into any, verb ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	args := append(verb, "--config", h.config)
	if into != nil {
		args = append(args, "--output", "json")
	}
	cmd := exec.CommandContext(ctx, h.bin, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("hostagent %s: %w\n%s", strings.Join(verb, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("hostagent %s printed no JSON: %w", strings.Join(verb, " "), err)
	}
	return nil
}

// Ready waits until the agent answers on its socket.
func (h *host) Ready(ctx context.Context) error {
	return eventually(ctx, 20*time.Second, func() (bool, error) {
		select {
		case <-h.done:
			return false, errors.New("the agent ended")
		default:
		}
		err := h.ask(ctx, nil, "sync")
		return err == nil, err
	})
}

// At returns web's status once the host has taken up a commit and is done
// with it: converged, reverted or halted.
func (h *host) At(ctx context.Context, commit string) (serviceStatus, error) {
	var web serviceStatus
	err := eventually(ctx, 30*time.Second, func() (bool, error) {
		var st status
		if err := h.ask(ctx, &st, "status"); err != nil {
			return false, err
		}
		if st.Commit != commit || len(st.Services) != 1 {
			return false, fmt.Errorf("the host stands at commit %.7s, not %.7s", st.Commit, commit)
		}
		web = st.Services[0]
		switch web.State {
		case "converged", "reverted", "halted":
			return true, nil
		}
		return false, fmt.Errorf("web is %s: %s", web.State, web.Reason)
	})
	return web, err
}

// eventually asks again until the answer is yes, or the time is over; then it
// returns the last error.
func eventually(ctx context.Context, within time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		ok, err := ask()
		if ok {
			return nil
		}
		if perr := pause(ctx, 200*time.Millisecond); perr != nil {
			if errors.Is(perr, context.DeadlineExceeded) && err != nil {
				return fmt.Errorf("not within %v: %w", within, err)
			}
			return perr
		}
	}
}

// binaries are the programs that the demo shows.
type binaries struct{ hostagent, drydock string }

// readyBinaries takes the programs that are in a directory.
func readyBinaries(dir string) (binaries, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return binaries{}, err
	}
	b := binaries{filepath.Join(dir, "hostagent"), filepath.Join(dir, "drydock")}
	for _, p := range []string{b.hostagent, b.drydock} {
		if _, err := os.Stat(p); err != nil {
			return b, fmt.Errorf("--bin: %w", err)
		}
	}
	return b, nil
}

// buildBinaries builds them into a directory.
func buildBinaries(ctx context.Context, dir string) (binaries, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-o", dir+string(filepath.Separator), "drydock/cmd/hostagent", "drydock/cmd/drydock")
	if out, err := cmd.CombinedOutput(); err != nil {
		return binaries{}, fmt.Errorf("build hostagent and drydock: %w\n%s\nRun the demo from the project's directory, or name ready binaries with --bin", err, bytes.TrimSpace(out))
	}
	return readyBinaries(dir)
}

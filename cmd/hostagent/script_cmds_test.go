package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"drydock/hostagent/api"
	"drydock/hostagent/journal"
	"drydock/reconcile"
)

// status asks the running agent.
func (w *world) status(ctx context.Context) (st reconcile.HostStatus, err error) {
	err = api.NewClient(w.state).Status(ctx, &st)
	return st, err
}

// cmdAwait is `await SERVICE KEY=REGEXP...`: waits until the running agent's
// status says so. SERVICE "host" is the host itself.
func cmdAwait(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	until(ts, strings.Join(args, " "), func() error {
		st, err := w.status(context.Background())
		if err != nil {
			return err
		}
		return says(st, args)
	})
}

// cmdExpect is `expect SERVICE KEY=REGEXP...`: `hostagent status` says so now,
// with or without an agent that runs.
func cmdExpect(ts *testscript.TestScript, neg bool, args []string) {
	cmd := agentCommand(ts, []string{"status", "--output", "json"})
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		ts.Fatalf("status: %v\n%s", err, &errs)
	}
	var st reconcile.HostStatus
	ts.Check(json.Unmarshal(out, &st))
	if err := says(st, args); (err == nil) == neg {
		ts.Fatalf("%v; %s", err, out)
	}
}

// says matches a service of a status against patterns.
func says(st reconcile.HostStatus, args []string) error {
	facts := map[string]string{"commit": st.Commit, "error": st.Source.Error, "paused": fmt.Sprint(st.Paused), "services": fmt.Sprint(len(st.Services))}
	if args[0] != "host" {
		facts = nil
		for _, s := range st.Services {
			if s.Name == args[0] {
				facts = map[string]string{"state": s.State.String(), "reason": s.Reason, "gate": s.Gate, "step": s.Step, "missing": strings.Join(s.Missing, " "), "origin": s.Origin, "wanted": "-", "running": "-"}
				if s.Wanted != nil {
					facts["wanted"] = s.Wanted.Version
				}
				if s.Running != nil {
					facts["running"] = s.Running.Version
				}
			}
		}
		if facts == nil {
			return fmt.Errorf("no service %s in %+v", args[0], st)
		}
	}
	for _, a := range args[1:] {
		key, pattern, _ := strings.Cut(a, "=")
		value, ok := facts[key]
		if !ok {
			return fmt.Errorf("no fact %q", key)
		}
		if !regexp.MustCompile("^(?s:" + pattern + ")$").MatchString(value) {
			return fmt.Errorf("%s of %s is %q in %+v", key, args[0], value, facts)
		}
	}
	return nil
}

// cmdWaitFor is `wait-for FILE [REGEXP]`: until it is there, and holds that.
func cmdWaitFor(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, strings.Join(args, " holds "), func() error {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && len(args) > 1 && !regexp.MustCompile("(?m)"+args[1]).Match(data) {
			return fmt.Errorf("it holds %q", data)
		}
		return err
	})
}

// cmdAbsent is `absent FILE`: waits until it is gone.
func cmdAbsent(ts *testscript.TestScript, _ bool, args []string) {
	until(ts, args[0]+" is gone", func() error {
		if _, err := os.Lstat(ts.MkAbs(args[0])); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("it is there (%v)", err)
		}
		return nil
	})
}

// cmdRelease is `release SERVICE VERSION [PROGRAM]`: an archive with bin/app,
// a file of the script or else a program that writes down its start and runs
// until it is ended. In PROGRAM, $WORK and $VERSION are filled in.
func cmdRelease(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	program := fmt.Sprintf("#!/bin/sh\necho $VERSION $$ >>$WORK/starts/%s\nexec sleep 1000\n", args[0])
	if len(args) > 2 {
		program = ts.ReadFile(args[2])
	}
	w.pack(ts, args[0], args[1], program)
}

func (w *world) pack(ts *testscript.TestScript, service, version, program string) {
	program = strings.ReplaceAll(strings.ReplaceAll(program, "$WORK", w.dir), "$VERSION", version)
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	ts.Check(tw.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}))
	ts.Check(tw.WriteHeader(&tar.Header{Name: "bin/app", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}))
	_, err := tw.Write([]byte(program))
	ts.Check(err)
	ts.Check(tw.Close())
	ts.Check(zw.Close())
	ts.Check(os.WriteFile(w.artifact(service, version), buf.Bytes(), 0o644))
}

func (w *world) artifact(service, version string) string {
	return w.path(fmt.Sprintf("artifacts/%s-%s.tar.gz", service, version))
}

// cmdService is `service NAME VERSION [FILE]`: declares it in prod, with the
// lines of FILE in its block, without pushing.
func cmdService(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	extra := ""
	if len(args) > 2 {
		extra = ts.ReadFile(args[2])
	}
	text := fmt.Sprintf("service %q {\n  hosts   = {}\n  profile = \"app\"\n  release {\n    version = %q\n    digest  = \"sha256:%s-%s\"\n  }\n%s}\n", args[0], args[1], args[0], args[1], extra)
	ts.Check(os.WriteFile(w.path("fleet/prod/"+args[0]+".hcl"), []byte(text), 0o644))
}

var releaseLine = regexp.MustCompile(`(?m)^(\s*)(version|digest)( *= *)"[^"]*"`)

// cmdBump is `bump NAME VERSION`: the service's file names another release,
// and is pushed.
func cmdBump(ts *testscript.TestScript, neg bool, args []string) {
	file := worldOf(ts).path("fleet/prod/" + args[0] + ".hcl")
	old := ts.ReadFile(file)
	text := releaseLine.ReplaceAllStringFunc(old, func(line string) string {
		m := releaseLine.FindStringSubmatch(line)
		value := args[1]
		if m[2] == "digest" {
			value = "sha256:" + args[0] + "-" + args[1]
		}
		return fmt.Sprintf("%s%s%s%q", m[1], m[2], m[3], value)
	})
	ts.Check(os.WriteFile(file, []byte(text), 0o644))
	cmdPush(ts, neg, nil)
}

var placeholder = regexp.MustCompile(`"sha256:([a-z][a-z0-9-]*)-([0-9][^"]{0,30})"`)

// cmdPush is `push`: commits all of fleet and pushes it. In its files $WORK is
// filled in, and "sha256:NAME-VERSION" with that release's digest; a release
// that was not made yet is made. With files in it that are no text, nothing is.
func cmdPush(ts *testscript.TestScript, _ bool, _ []string) {
	w := worldOf(ts)
	ts.Check(filepath.WalkDir(w.path("fleet"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || !strings.HasSuffix(path, ".hcl") {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(data)
		for _, f := range w.fills {
			text = strings.ReplaceAll(text, f[0], f[1])
		}
		text = placeholder.ReplaceAllStringFunc(text, func(s string) string {
			m := placeholder.FindStringSubmatch(s)
			if _, err := os.Stat(w.artifact(m[1], m[2])); err != nil {
				cmdRelease(ts, false, []string{m[1], m[2]})
			}
			data, err := os.ReadFile(w.artifact(m[1], m[2]))
			ts.Check(err)
			sum := sha256.Sum256(data)
			return `"sha256:` + hex.EncodeToString(sum[:]) + `"`
		})
		if text == string(data) {
			return nil
		}
		return os.WriteFile(path, []byte(text), 0o644)
	}))
	cmdGit(ts, false, []string{"add", "-A"})
	cmdGit(ts, false, []string{"commit", "-q", "--allow-empty", "-m", "change"})
	cmdGit(ts, false, []string{"push", "-q", "up", "HEAD:main"})
}

// cmdGit is `git ARGS...` in the clone that people work in.
func cmdGit(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = w.path("fleet"), append(os.Environ(), scriptEnv(ts)...)
	out, err := cmd.CombinedOutput()
	if (err != nil) != neg {
		ts.Fatalf("git %v: %v\n%s", args, err, out)
	}
	_, _ = ts.Stdout().Write(out)
}

// cmdReplace is `replace FILE OLD NEW`, where \n is the end of a line.
func cmdReplace(ts *testscript.TestScript, _ bool, args []string) {
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], `\n`, "\n")
	}
	data := ts.ReadFile(args[0])
	if !strings.Contains(data, args[1]) {
		ts.Fatalf("%s does not hold %q:\n%s", args[0], args[1], data)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.ReplaceAll(data, args[1], args[2])), 0o755))
}

// lastStart is the newest line that a service's program wrote.
func (w *world) lastStart(service string) (version string, pid, starts int) {
	data, _ := os.ReadFile(w.path("starts/" + service))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if strings.TrimSpace(lines[0]) == "" {
		return "", 0, 0
	}
	_, _ = fmt.Sscan(lines[len(lines)-1], &version, &pid)
	return version, pid, len(lines)
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// cmdServes is `serves SERVICE VERSION`: that version's process lives and is
// in rotation; negated: it is out of rotation, or does not live.
func cmdServes(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	version, pid, _ := w.lastStart(args[0])
	_, err := os.Stat(w.path("rotation/" + args[0]))
	if serves := err == nil && version == args[1] && alive(pid); serves == neg {
		ts.Fatalf("serves: %v (started %q pid %d alive %v, rotation: %v)", serves, version, pid, alive(pid), err)
	}
}

// cmdEndedProcess is `ended-process SERVICE`: its newest process lives no more.
func cmdEndedProcess(ts *testscript.TestScript, _ bool, args []string) {
	if _, pid, _ := worldOf(ts).lastStart(args[0]); alive(pid) {
		ts.Fatalf("process %d lives", pid)
	}
}

// cmdStarts is `starts SERVICE N`: its program was started so often.
func cmdStarts(ts *testscript.TestScript, _ bool, args []string) {
	if _, _, n := worldOf(ts).lastStart(args[0]); strconv.Itoa(n) != args[1] {
		ts.Fatalf("started %d times, want %s", n, args[1])
	}
}

// cmdEnd is `end SERVICE`: its process dies, by no doing of the agent's.
func cmdEnd(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	_, pid, _ := w.lastStart(args[0])
	if !w.owns(pid) {
		ts.Fatalf("process %d is not of %s", pid, args[0])
	}
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	until(ts, "it is dead", func() error {
		if alive(pid) {
			return errors.New("it lives")
		}
		return nil
	})
}

// cmdRecords is `records [!] REGEXP...`: prints the journal of an agent that
// does not run, a line a record: `seq kind service step reason`.
func cmdRecords(ts *testscript.TestScript, _ bool, _ []string) {
	j, err := journal.Open(journal.Options{Path: filepath.Join(worldOf(ts).state, journalFile), ReadOnly: true})
	ts.Check(err)
	for r, err := range j.Records(context.Background()) {
		ts.Check(err)
		fmt.Fprintln(ts.Stdout(), r.Seq, r.Kind, r.Service, r.Step, r.Reason)
	}
}

// cmdNowhere is `nowhere TEXT FILE...`: no file below these holds it.
func cmdNowhere(ts *testscript.TestScript, _ bool, args []string) {
	for _, root := range args[1:] {
		ts.Check(filepath.WalkDir(ts.MkAbs(root), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err == nil && bytes.Contains(data, []byte(args[0])) {
				err = fmt.Errorf("%s holds it", path)
			}
			return err
		}))
	}
	if a := worldOf(ts).current(); a != nil && strings.Contains(a.log.String(), args[0]) {
		ts.Fatalf("the log holds it")
	}
}

// cmdTree is `tree OUT DIR...`: writes into OUT every name below these, with mode,
// size and what it holds or leads to. What is not there has no line.
func cmdTree(ts *testscript.TestScript, _ bool, args []string) {
	var all strings.Builder
	for _, root := range args[1:] {
		err := filepath.WalkDir(ts.MkAbs(root), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			fmt.Fprintf(&all, "%s %v %s", path, info.Mode(), info.ModTime())
			switch info.Mode().Type() {
			case 0:
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&all, " %x", sha256.Sum256(data))
			case fs.ModeSymlink:
				to, err := os.Readlink(path)
				if err != nil {
					return err
				}
				all.WriteString(" -> " + to)
			}
			all.WriteString("\n")
			return nil
		})
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(all.String()), 0o600))
}

// cmdDamage is `damage FILE truncate|flip`: a disk that lies.
func cmdDamage(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	switch args[1] {
	case "truncate":
		data = data[:len(data)/3]
	case "flip":
		for i := len(data) / 4; i < len(data); i += 512 {
			data[i] ^= 0x55
		}
	}
	ts.Check(os.WriteFile(path, data, 0o600))
}

var masks = []struct {
	re   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`"agent": (true|false)`), `"agent": AGENT`},
	{regexp.MustCompile(`sha256:[0-9a-f]{64}`), "sha256:DIGEST"},
	{regexp.MustCompile(`"[0-9a-f]{64}"`), `"HASH"`},
	{regexp.MustCompile(`"[0-9a-f]{40}"`), `"COMMIT"`},
	{regexp.MustCompile(`@[0-9a-f]{7}\b`), "@COMMIT"},
	{regexp.MustCompile(`"20[0-9T:.-]+Z"`), `"TIME"`},
}

// cmdMask is `mask FILE`: what differs from run to run gives way to a word, in
// the script's stdout or stderr too.
func cmdMask(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), worldOf(ts).dir, "$WORK")
	for _, m := range masks {
		text = m.re.ReplaceAllString(text, m.with)
	}
	_, _ = ts.Stdout().Write([]byte(text))
}

// cmdServe is `serve FILE`: an HTTPS-less artifact server on loopback, for
// whoever sends FILE's content as Authorization; in declarations it is $SERVER.
func cmdServe(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	secret := strings.TrimSpace(ts.ReadFile(args[0]))
	files := http.FileServer(http.Dir(w.path("artifacts")))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != secret {
			http.Error(rw, "not you: "+r.Header.Get("Authorization"), http.StatusForbidden)
			return
		}
		files.ServeHTTP(rw, r)
	}))
	w.fills = append(w.fills, [2]string{"$SERVER", server.URL})
	w.ends = append(w.ends, server.Close)
}

// cmdMount is `mount DIR OPTIONS`: a tmpfs there; `mount DIR ro`: the same
// directory, but nothing can be written; `mount DIR back`: what was there before.
func cmdMount(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	if args[1] == "back" {
		ts.Check(unix.Unmount(dir, 0))
		return
	}
	w := worldOf(ts)
	w.ends = append(w.ends, func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if args[1] != "ro" {
		ts.Check(unix.Mount("tmpfs", dir, "tmpfs", 0, args[1]))
		return
	}
	ts.Check(unix.Mount(dir, dir, "", unix.MS_BIND, ""))
	ts.Check(unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

// cmdSilent is `silent`: a server that accepts and never answers; $SILENT is a
// git URL of it.
func cmdSilent(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	var conns []net.Conn
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, c)
		}
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	ts.Setenv("SILENT", "git://"+l.Addr().String()+"/releases.git")
	w := worldOf(ts)
	w.ends = append(w.ends, func() { _ = l.Close(); <-ended })
}

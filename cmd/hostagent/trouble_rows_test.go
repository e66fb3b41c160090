package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"drydock/reconcile"
	hosts "drydock/testdata/rig"
)

const (
	deadline = `healthy_deadline = "20s"`
	soon     = `healthy_deadline = "500ms"`
)

// pilot is a hook that lets the test come aboard before a phase.
func pilot(before string) string {
	return fmt.Sprintf("  run \"pilot\" {\n    before  = %q\n    command = [\"/yard/lb/hold\"]\n  }\n  start", before)
}

func haproxyTrouble() []trouble {
	var back func() // its socket
	return []trouble{{
		name: "its socket is gone", service: "web",
		harm:  func(h *harbour) func() { return h.instead(nil) },
		state: reconcile.Waiting, gate: "host", says: []string{"there is no socket of HAProxy", "Start HAProxy"},
	}, {
		name: "it refuses", service: "web",
		harm: func(h *harbour) func() {
			return h.instead(func(l *net.UnixListener) {
				l.SetUnlinkOnClose(false)
				l.Close()
			})
		},
		state: reconcile.Waiting, gate: "host", says: []string{"connection refused"},
	}, {
		name: "it hangs", service: "web",
		harm: func(h *harbour) func() {
			h.haproxy.Signal(syscall.SIGSTOP)
			return func() { h.haproxy.Signal(syscall.SIGCONT) }
		},
		state: reconcile.Waiting, gate: "host", says: []string{"has not answered"}, silent: true,
	}, {
		name: "it answers half", service: "web",
		harm: func(h *harbour) func() {
			return h.instead(func(l *net.UnixListener) { go h.half(l) })
		},
		state: reconcile.Waiting, gate: "host", says: []string{"broke off after"},
	}, {
		name: "its backend is another", service: "web", edit: []string{`backend = "web"`, `backend = "wbe"`},
		state: reconcile.Waiting, gate: "host", says: []string{`backend "wbe" is unknown`, "which has orders, web"}, person: true,
	}, {
		name: "its server is another", service: "web", edit: []string{"server  = host.name", `server  = "harbor"`},
		state: reconcile.Waiting, gate: "host", says: []string{`server "harbor" is unknown to backend "web"`, "which has harbour"}, person: true,
	}, {
		name: "sessions that never end", service: "web",
		harm:  func(h *harbour) func() { return h.session() },
		state: reconcile.Converged,
		then: func(h *harbour) {
			if log := h.log(); !strings.Contains(log, "1 session left after 1s; it goes on") {
				h.t.Errorf("it was not said:\n%s", log)
			}
		},
	}, {
		// In the drain step there is a look every few milliseconds; between it and
		// the undrain somebody has to stand by. The hook is where both can be seen.
		name: "it is reloaded in mid-drain", service: "web", edit: []string{"  start", pilot("install")},
		harm: func(h *harbour) func() { return h.session() },
		meanwhile: func(h *harbour) {
			server := "web/" + h.zone.name
			h.haproxy.Await(h.t, server, drains)
			h.haproxy.Reload(h.t)
			h.haproxy.Await(h.t, server, drains) // by the drain's own look, or by who stands by after it
			h.holds()
			h.haproxy.Await(h.t, server, drains)
			h.haproxy.Reload(h.t)
			h.haproxy.Await(h.t, server, drains)
			h.letGo("on")
		},
		state: reconcile.Converged,
		then: func(h *harbour) {
			if n := strings.Count(h.log(), "the drain was lost, as by a reload of HAProxy, and is set again"); n < 2 {
				h.t.Errorf("that the drain was set again is said %d times", n)
			}
		},
	}, {
		name: "it goes while the host is drained", service: "web", edit: []string{"  start", pilot("start")},
		harm: func(h *harbour) func() { return func() { back() } },
		meanwhile: func(h *harbour) {
			h.holds()
			path := h.haproxy.Socket
			mend := h.instead(nil)
			h.haproxy.Socket += ".away"
			back = func() {
				h.haproxy.Socket = path
				mend()
			}
			h.letGo("on")
		},
		state: reconcile.Progressing, says: []string{"there is no socket of HAProxy", "It is out of rotation meanwhile"}, out: true,
	}, {
		name: "it is reloaded while the host is halted", service: "web", edit: []string{deadline, soon + "\n    auto_revert = false"},
		release: bad, state: reconcile.Halted, says: []string{"503", "It stays out of rotation"}, out: true, person: true,
		then: func(h *harbour) {
			// A new agent, which finds everything as it left it, stands by all the same.
			h.zone.host.Must(h.t, "systemctl", "restart", "hostagent")
			var st reconcile.HostStatus
			must(h.t, h.zone.client().Once(h.t.Context(), &st))
			const again = "the drain was lost, as by a reload of HAProxy, and is set again"
			before := strings.Count(h.log(), again)
			h.haproxy.Reload(h.t)
			h.haproxy.Await(h.t, "web/"+h.zone.name, drains)
			h.see("web", "that it was set again by who stands by", func(reconcile.ServiceStatus) bool { return strings.Count(h.log(), again) > before })
			h.zone.host.Must(h.t, "systemctl", "stop", "hostagent")
			h.haproxy.Reload(h.t)
			if h.outOf("web") {
				h.t.Error("this reload loses no drain, so that nothing is shown")
			}
			h.zone.host.Must(h.t, "systemctl", "start", "hostagent")
			h.haproxy.Await(h.t, "web/"+h.zone.name, drains)
			h.see("web", "that it is halted still", func(s reconcile.ServiceStatus) bool { return s.State == reconcile.Halted })
		},
	}}
}

func drains(s hosts.ServerState) bool { return s.Admin&8 != 0 }

func bad(h *harbour, v string) string {
	h.make("web", v+"bad")
	return v + "bad"
}

// instead puts something in the place of HAProxy's socket.
func (h *harbour) instead(what func(*net.UnixListener)) (mend func()) {
	path := h.haproxy.Socket
	must(h.t, os.Rename(path, path+".away"))
	if what != nil {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		must(h.t, err)
		h.t.Cleanup(func() { l.Close() })
		l.SetUnlinkOnClose(false)
		what(l)
	}
	return func() { must(h.t, os.Rename(path+".away", path)) }
}

// half gives the first half of each of HAProxy's answers.
func (h *harbour) half(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		asked, _ := bufio.NewReader(c).ReadString('\n')
		if real, err := net.Dial("unix", h.haproxy.Socket+".away"); err == nil {
			_, _ = io.WriteString(real, asked)
			answer, _ := io.ReadAll(real)
			_, _ = c.Write(answer[:len(answer)/2])
			real.Close()
		}
		c.Close()
	}
}

// session is a user's that ends when it is told to.
func (h *harbour) session() (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.haproxy.URL("web")+"/forever", nil)
	must(h.t, err)
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	must(h.t, err)
	return func() {
		cancel()
		resp.Body.Close()
	}
}

func unitTrouble() []trouble {
	const at = "/etc/systemd/system/web.service"
	away := func(h *harbour, more string) func() {
		h.zone.host.Must(h.t, "sh", "-ec", "mv "+at+" /var/tmp/; "+more+"systemctl daemon-reload")
		return func() {
			h.zone.host.Must(h.t, "sh", "-ec", "rm -f "+at+"; mv /var/tmp/web.service "+at+"; systemctl daemon-reload")
		}
	}
	limits := func(h *harbour, more string) func() {
		h.zone.host.WriteFile(h.t, at+".d/limit.conf", "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=3\n[Service]\nRestartSec=10ms\n"+more+"\n", 0o644)
		h.zone.host.Must(h.t, "systemctl", "daemon-reload")
		return func() {
			h.zone.host.Must(h.t, "sh", "-ec", "rm -r "+at+".d; systemctl daemon-reload")
		}
	}
	return []trouble{{
		name: "missing", service: "web",
		harm:  func(h *harbour) func() { return away(h, "") },
		state: reconcile.Waiting, gate: "host", says: []string{"there is no unit web.service on this host", "Let provisioning install it"},
	}, {
		name: "masked", service: "web",
		harm:  func(h *harbour) func() { return away(h, "ln -s /dev/null "+at+"; ") },
		state: reconcile.Waiting, gate: "host", says: []string{"web.service is masked", "systemctl unmask web.service"},
	}, {
		name: "failing at once", service: "web",
		release: script("echo the rudder is missing >&2; exit 3"),
		state:   reconcile.Reverted, says: []string{"web.service does not run", "status 3", "the rudder is missing"}, person: true,
	}, {
		name: "never ready", service: "web", edit: []string{`unit = "web.service"`, "unit = \"web.service\"\n    timeout = \"1s\""},
		release: script("exec sleep 3600"),
		state:   reconcile.Reverted, says: []string{"was not ready within 1s", "never said READY=1"}, person: true,
	}, {
		name: "failing, and started again up to its limit", service: "web",
		harm:    func(h *harbour) func() { return limits(h, "Restart=always") },
		release: script("exit 3"),
		state:   reconcile.Reverted, says: []string{"status 3"}, person: true,
	}, {
		name: "over its start limit, because of others", service: "web",
		harm: func(h *harbour) func() {
			mend := limits(h, "Restart=no")
			h.zone.host.Must(h.t, "sh", "-ec", "systemctl reset-failed web; for i in 1 2 3 4; do systemctl restart web || test $i = 4; done")
			return mend
		},
		state: reconcile.Converged,
	}}
}

// script is a release of web that is a shell script.
func script(text string) func(h *harbour, v string) string {
	return func(h *harbour, v string) string {
		h.release["web "+v] = bumped{v, h.artifact("web-"+v, []byte("#!/bin/sh\n"+text+"\n# "+v+"\n"))}
		return v
	}
}

func databaseTrouble() []trouble {
	alter := func(v, more string) string {
		return "-- +goose Up\nALTER TABLE orders ADD COLUMN " + column(v) + " int;\n" + more
	}
	// A migration that fails once its first statement was applied.
	halfway := func(up func(v string) string) func(h *harbour, v string) string {
		return func(h *harbour, v string) string {
			h.ups[v] = up(v)
			h.make("orders", v)
			return v
		}
	}
	forgotten := func(h *harbour) { // no later release brings it
		delete(h.release, fmt.Sprintf("orders 1.0.%d", h.n))
	}
	return []trouble{{
		name: "down", service: "orders",
		harm: func(h *harbour) func() {
			h.db.Stop()
			return func() { h.db.Start(h.t) }
		},
		state: reconcile.Waiting, gate: "host", says: []string{"connection refused", "See that it runs"}, mute: true,
	}, {
		name: "locked", service: "orders", edit: []string{`timeout    = "20s"`, `timeout    = "2s"`},
		harm:  func(h *harbour) func() { return h.transaction("begin; lock table orders in row exclusive mode;") },
		state: reconcile.Progressing, says: []string{"Somebody holds a lock", "It is out of rotation meanwhile"}, out: true,
	}, {
		name: "read-only", service: "orders",
		harm: func(h *harbour) func() {
			h.db.Exec(h.t, h.dbName, "alter database "+h.dbName+" set default_transaction_read_only = on")
			return func() { h.db.Exec(h.t, "postgres", "alter database "+h.dbName+" reset default_transaction_read_only") }
		},
		state: reconcile.Waiting, gate: "host", says: []string{"read-only", "Name the primary"},
	}, {
		name: "out of disk", service: "orders",
		harm: func(h *harbour) func() { return h.small("hold") },
		release: halfway(func(v string) string {
			return alter(v, "CREATE TABLE big (t text) TABLESPACE hold;\nINSERT INTO big SELECT repeat('x', 1000) FROM generate_series(1, 5000);\n")
		}),
		state: reconcile.Progressing, says: []string{"Make room", "It is out of rotation meanwhile"}, out: true,
	}, {
		name: "migration fails half-way, inside a transaction", service: "orders",
		release: halfway(func(v string) string { return alter(v, "SELECT 1/0;\n") }),
		state:   reconcile.Reverted, says: []string{"division by zero", "Nothing of it stays"}, person: true,
		then: func(h *harbour) {
			if h.columns() != 0 {
				h.t.Error("the first half was applied")
			}
			forgotten(h)
		},
	}, {
		name: "migration fails half-way, outside of one", service: "orders",
		release: halfway(func(v string) string { return "-- +goose NO TRANSACTION\n" + alter(v, "SELECT 1/0;\n") }),
		state:   reconcile.Halted, says: []string{"division by zero", "It stays out of rotation", `commit a ` + "`resolved \"orders\"` block"}, out: true, person: true,
		then: func(h *harbour) {
			if h.columns() != 1 {
				h.t.Error("the first half was not applied")
			}
			h.db.Exec(h.t, h.dbName, fmt.Sprintf("alter table orders drop column v1_0_%d", h.n))
			forgotten(h)
		},
	}, {
		name: "the same, undone by a person and tried once more", service: "orders",
		harm: func(h *harbour) func() {
			h.db.Exec(h.t, h.dbName, "create table berths (id int); grant all on berths to public")
			return nil
		},
		release: halfway(func(v string) string {
			return "-- +goose NO TRANSACTION\n" + alter(v, "SELECT 1/count(*) FROM berths;\n")
		}),
		state: reconcile.Halted, says: []string{"division by zero", "It stays out of rotation"}, out: true,
		then: func(h *harbour) {
			v := fmt.Sprintf("1.0.%d", h.n)
			h.db.Exec(h.t, h.dbName, "insert into berths values (1); alter table orders drop column "+column(v))
			h.declared("orders", []string{"  }\n  artifact", "    attempt = 2\n  }\n  artifact"})
			h.push("orders", h.release["orders "+v])
		},
	}}
}

// columns is how many columns of the newest release there are.
func (h *harbour) columns() int {
	return strings.Count(h.db.Exec(h.t, h.dbName, fmt.Sprintf("select column_name from information_schema.columns where column_name like 'v1\\_0\\_%d%%'", h.n)), "v1_0_")
}

// transaction stays open until it is told to end.
func (h *harbour) transaction(sql string) (end func()) {
	cmd := exec.Command("psql", "-qXAt", h.db.URL(h.dbName))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	must(h.t, err)
	out, err := cmd.StdoutPipe()
	must(h.t, err)
	must(h.t, cmd.Start())
	_, err = io.WriteString(in, sql+"\nselect 'open';\n")
	must(h.t, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "open\n" {
		h.t.Fatalf("no transaction: %q, %v", line, err)
	}
	return func() {
		in.Close()
		must(h.t, cmd.Wait())
	}
}

// small makes a tablespace of one megabyte, which can be made larger.
func (h *harbour) small(name string) (larger func()) {
	dir, err := os.MkdirTemp("", "small")
	must(h.t, err)
	must(h.t, unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"))
	// It ends before the database does; nobody reads it any more.
	h.yard.t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH); _ = os.Remove(dir) })
	if u := h.db.User(); u != nil {
		must(h.t, os.Chown(dir, int(u.Uid), int(u.Gid)))
	}
	h.db.Exec(h.t, "postgres", "create tablespace "+name+" location '"+dir+"'")
	h.db.Exec(h.t, "postgres", "grant create on tablespace "+name+" to public")
	return func() { must(h.t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m")) }
}

func statefulTrouble() []trouble {
	return []trouble{{
		name: "a backup before the migration", service: "orders", edit: []string{"  start", pilot("migrate")},
		meanwhile: func(h *harbour) {
			h.holds()
			if h.columns() != 0 {
				h.t.Error("the migration did not wait for the backup")
			}
			h.letGo("on")
		},
		state: reconcile.Converged,
		then: func(h *harbour) {
			if h.columns() != 1 {
				h.t.Error("there was no migration")
			}
		},
	}, {
		name: "a backup that fails", service: "orders", edit: []string{"  start", pilot("migrate")},
		meanwhile: func(h *harbour) {
			h.holds()
			h.letGo("aground")
		},
		state: reconcile.Reverted, says: []string{"failed in run/pilot: /yard/lb/hold exited with status 1"}, person: true,
		then: func(h *harbour) {
			if h.columns() != 0 {
				h.t.Error("it migrated without a backup")
			}
			delete(h.release, fmt.Sprintf("orders 1.0.%d", h.n))
		},
	}, {
		name: "an incompatible migration is not crossed", service: "orders", edit: []string{"compatible = true", "compatible = false", deadline, soon},
		release: func(h *harbour, v string) string { h.make("orders", v+"bad"); return v + "bad" },
		state:   reconcile.Halted, says: []string{"503", "It stays out of rotation", "not put back", "compatible is false"}, out: true, person: true,
		then: func(h *harbour) {
			if h.columns() != 1 {
				h.t.Error("the migration was not applied")
			}
		},
	}}
}

// packageSource is where apt finds packages: a directory with an index.
type packageSource struct {
	h     *harbour
	index string
	at    time.Time
}

const toolsDeclaration = `}
  install "apt" {
    package = "tools"
    timeout = "30s"
  }
  check "command" {
    command  = ["grep", "-qx", release.version, "/opt/tools/version"]
    interval = "50ms"
  }
`

func (h *harbour) aptSource() {
	h.apt = packageSource{h: h, at: time.Now().Add(-24 * time.Hour)}
	must(h.t, os.MkdirAll(h.path("apt"), 0o755))
	for path, text := range map[string]string{
		"/etc/apt/sources.list": "deb [trusted=yes] file:/yard/apt ./\n", "/etc/apt/apt.conf.d/99yard": "Acquire::Retries \"0\";\n",
		"/etc/dpkg/dpkg.cfg.d/yard": "force-unsafe-io\n",
	} {
		h.zone.host.WriteFile(h.t, path, text, 0o644)
	}
}

// deb builds a package.
func (s *packageSource) deb(name, version, postinst string) (path, control string) {
	t := s.h.t
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	must(t, os.MkdirAll(root+"/DEBIAN", 0o755))
	must(t, os.MkdirAll(root+"/opt/"+name, 0o755))
	control = fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Acme <ops@acme.example>\nDescription: a test\n", name, version)
	must(t, os.WriteFile(root+"/DEBIAN/control", []byte(control), 0o644))
	must(t, os.WriteFile(root+"/opt/"+name+"/version", []byte(version), 0o644))
	if postinst != "" {
		must(t, os.WriteFile(root+"/DEBIAN/postinst", []byte("#!/bin/sh\n"+postinst+"\n"), 0o755))
	}
	path = "apt/" + name + "_" + version + "_all.deb"
	if out, err := exec.Command("dpkg-deb", "-Znone", "--root-owner-group", "--build", root, s.h.path(path)).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	return path, control
}

// publish makes a version of tools, and shows it in the index.
func (s *packageSource) publish(version string) {
	t := s.h.t
	path, control := s.deb("tools", version, "")
	data := must1(t, os.ReadFile, s.h.path(path))
	s.index += fmt.Sprintf("%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, strings.TrimPrefix(path, "apt/"), len(data), sha256.Sum256(data))
	must(t, os.WriteFile(s.h.path("apt/Packages"), []byte(s.index), 0o644))
	s.at = s.at.Add(time.Minute) // apt tells times apart by the second
	must(t, os.Chtimes(s.h.path("apt/Packages"), s.at, s.at))
}

func aptTrouble() []trouble {
	var late string
	return []trouble{{
		name: "its version is not in the index", service: "tools",
		release: func(_ *harbour, v string) string { late = v; return v },
		harm:    func(h *harbour) func() { return func() { h.apt.publish(late) } },
		state:   reconcile.Waiting, gate: "fetch", says: []string{"tools", "index"},
	}, {
		name: "dpkg's lock is held", service: "tools",
		harm: func(h *harbour) func() {
			path, _ := h.apt.deb("slow", "1.0", "exec /yard/lb/hold")
			var said bytes.Buffer
			cmd := h.zone.host.Command(context.Background(), "dpkg", "-i", "/yard/"+path)
			cmd.Stdout, cmd.Stderr = &said, &said
			must(h.t, cmd.Start())
			h.holds()
			return func() {
				h.letGo("on")
				if err := cmd.Wait(); err != nil {
					h.t.Errorf("dpkg: %v\n%s", err, said.String())
				}
			}
		},
		state: reconcile.Waiting, gate: "fetch", says: []string{"/var/lib/dpkg/lock-frontend is held by", "dpkg -i /yard/apt/slow"},
	}}
}

func gitTrouble() []trouble {
	const built = `["/bin/sh", "-c", "sed s/^/built:/ index.html >built.html"]`
	return []trouble{{
		name: "its build fails", service: "site",
		edit:  []string{built, `["/bin/sh", "-c", "test -e /yard/compiler || { echo no compiler here; exit 4; }"]`},
		harm:  func(h *harbour) func() { return func() { must(h.t, os.WriteFile(h.path("compiler"), nil, 0o644)) } },
		state: reconcile.Waiting, gate: "fetch", says: []string{"the build failed", "no compiler here", "The old release stays"},
	}, {
		name: "its build never ends", service: "site",
		edit:  []string{built, `["/bin/sleep", "3599"]` + "\n    timeout = \"1s\""},
		state: reconcile.Waiting, gate: "fetch", says: []string{"the build does not end", "1s"}, person: true,
	}}
}

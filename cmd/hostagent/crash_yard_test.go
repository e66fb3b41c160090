package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"drydock/reconcile"
)

// moored is the one service of the crash matrix on a real host: behind HAProxy,
// with a migration, under systemd.
type moored struct {
	*yard
	zone *zone
}

func newMoored(t testing.TB) moored {
	y := newYard(t, "north")
	y.quick = "  rollout {\n    min_healthy_time = \"20ms\"\n    healthy_deadline = \"1s\"\n  }\n"
	return moored{y, y.zones[0]}
}

func (m moored) bump(version string) {
	m.t.Helper()
	m.declare(m.zone, map[string]bumped{"orders": m.make("orders", version)})
}

// agent runs a hostagent command on the host.
func (m moored) agent(ctx context.Context, env []string, args ...string) *exec.Cmd {
	argv := append([]string{"env", asAgent + "=1"}, env...)
	argv = append(argv, "/yard/bin/hostagent")
	return m.zone.host.Command(ctx, append(append(argv, args...), "--config", "/etc/drydock/hostagent.hcl")...)
}

func (m moored) pass(env ...string) (string, int) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := m.agent(ctx, env, "once").CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		m.t.Fatalf("a pass hung\n%s", out)
	case errors.As(err, &exit) && (exit.ExitCode() == 137 || exit.ExitCode() == -1):
		return string(out), -1
	case errors.As(err, &exit):
		return string(out), exit.ExitCode()
	}
	must(m.t, err)
	return string(out), 0
}

func (m moored) status() (st reconcile.HostStatus) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := m.agent(ctx, nil, "status", "--output", "json").Output()
	must(m.t, err)
	must(m.t, json.Unmarshal(out, &st))
	return st
}

func (m moored) outOfRotation() bool { return m.haproxy.Servers(m.t)["orders/"+m.zone.name].Admin != 0 }

// serves asks as a user does. The service itself asks its database for what
// its own migration made.
func (m moored) serves(version string) {
	m.t.Helper()
	if m.outOfRotation() {
		m.t.Fatal("out of rotation")
	}
	got, err := get(&http.Client{Timeout: 10 * time.Second}, m.haproxy.URL("orders"))
	if err != nil || got != version {
		m.t.Fatalf("%q answers, %v; want %s", got, err, version)
	}
}

// TestKilledOnARealHost is the crash matrix once more, with systemd, HAProxy
// and PostgreSQL.
func TestKilledOnARealHost(t *testing.T) {
	t.Parallel()
	m := newMoored(t)
	m.bump("1.0.0")
	if said, code := m.pass(); code != 0 {
		t.Fatalf("exit %d\n%s", code, said)
	}
	n := 0
	next := func() string { n++; return fmt.Sprintf("1.0.%d", n) }
	t.Run("after each record", func(t *testing.T) {
		matrix(t, func(int) (killable, string) {
			version := next()
			m.bump(version)
			return m, version
		}, 0)
	})
	t.Run("broken", func(t *testing.T) {
		good := fmt.Sprintf("1.0.%d", n)
		// How long it is asked for in vain; what it is reverted to has its own.
		m.quick = strings.Replace(m.quick, `"1s"`, `"200ms"`, 1)
		matrix(t, func(int) (killable, string) {
			m.bump(next() + "bad")
			return m, good
		}, 1)
		m.quick = strings.Replace(m.quick, `"200ms"`, `"1s"`, 1)
	})
	t.Run("at random moments", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		longest := time.Second
		for range 20 {
			version := next()
			m.bump(version)
			began := time.Now()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.Int64N(int64(longest))))
			err := m.agent(ctx, nil, "once").Run()
			cancel()
			if err == nil {
				longest = time.Since(began)
			}
			if said, code := m.pass(); code != 0 {
				t.Fatalf("exit %d after a kill\n%s", code, said)
			}
			m.serves(version)
		}
	})
	// Each migration is there, and each was made once: a second ALTER TABLE
	// would have failed.
	if got := strings.Fields(m.db.Exec(t, m.dbName, "select version_id from goose_db_version where version_id > 0 order by 1")); len(got) < n/2 {
		t.Errorf("%d migrations of %d releases", len(got), n)
	}
}

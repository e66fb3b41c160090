package spec_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	"drydock/spec"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what the tables in testdata/spec expect")

// Each file of testdata/spec is a table about one part of the language. A row
// is a small repository, its files called "row: path"; "row: host" asks what a
// host runs (name, environment, platform, labels), "row: show" names a service to
// print, and "row: want" is what is expected: first what validate says, then
// what the host does.
func TestTables(t *testing.T) {
	tables, err := filepath.Glob("testdata/spec/*.txtar")
	if err != nil || len(tables) == 0 {
		t.Fatal("no tables", err)
	}
	for _, name := range tables {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) { runTable(t, name) })
	}
}

type row struct {
	name  string
	files fstest.MapFS
	host  string
	show  string
	want  *txtar.File
}

func runTable(t *testing.T, name string) {
	archive, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rowsOf(t, archive) {
		t.Run(r.name, func(t *testing.T) {
			got := r.run()
			if *update {
				r.want.Data = []byte(got)
			} else if diff := cmp.Diff(string(r.want.Data), got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if *update {
		if err := os.WriteFile(name, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func rowsOf(t *testing.T, archive *txtar.Archive) []*row {
	var rows []*row
	for i := range archive.Files {
		f := &archive.Files[i]
		name, path, ok := strings.Cut(f.Name, ": ")
		if !ok {
			t.Fatalf("%q is no row", f.Name)
		}
		if len(rows) == 0 || rows[len(rows)-1].name != name {
			rows = append(rows, &row{name: name, files: fstest.MapFS{}})
		}
		r := rows[len(rows)-1]
		switch path {
		case "host":
			r.host = strings.TrimSpace(string(f.Data))
		case "show":
			r.show = strings.TrimSpace(string(f.Data))
		case "want":
			r.want = f
		default:
			r.files[path] = &fstest.MapFile{Data: f.Data}
		}
	}
	for _, r := range rows {
		if r.want == nil {
			t.Fatalf("row %q wants nothing", r.name)
		}
	}
	return rows
}

func (r *row) run() string {
	var b strings.Builder
	f, _ := spec.Load("4f2a91c5d0", r.files)
	for _, d := range f.Validate() {
		b.WriteString(line(d) + "\n")
	}
	if r.host == "" {
		return b.String()
	}
	w, _ := f.For(hostOf(r.host))
	for _, d := range f.Faults(w.Host.Environment) {
		fmt.Fprintf(&b, "fault %s\n", line(d))
	}
	for _, s := range w.Services {
		fmt.Fprintf(&b, "runs %s %s %s", s.Name, s.Release.Version, s.Release.Digest)
		for _, h := range s.Holds {
			fmt.Fprintf(&b, " holds:%s", h.Gate)
		}
		b.WriteString("\n")
		if s.Name == r.show {
			b.WriteString(shown(s) + "\n")
		}
	}
	held := make([]string, 0, len(w.Held))
	for name := range w.Held {
		held = append(held, name)
	}
	sort.Strings(held)
	for _, name := range held {
		for _, d := range w.Held[name] {
			fmt.Fprintf(&b, "held %s: %s\n", name, line(d))
		}
	}
	for _, rm := range w.Removed {
		fmt.Fprintf(&b, "removed %s %s\n", rm.Name, rm.Origin)
	}
	return b.String()
}

func line(d *hcl.Diagnostic) string {
	sev := "error"
	if d.Severity == hcl.DiagWarning {
		sev = "warning"
	}
	if d.Subject != nil {
		sev += fmt.Sprintf(" %s:%d:", d.Subject.Filename, d.Subject.Start.Line)
	}
	return fmt.Sprintf("%s %s; %s", sev, d.Summary, d.Detail)
}

// shown is a service's blocks without origins, a line each.
func shown(s spec.Service) string {
	var out []string
	one := func(b *spec.Block) {
		if b != nil {
			out = append(out, fmt.Sprintf("  %s %s", b.ID(), b.Config))
		}
	}
	if s.Artifact != nil {
		a := *s.Artifact
		j, _ := json.Marshal(map[string]any{"source": a.Source, "mirrors": a.Mirrors, "headers": a.Headers})
		out = append(out, "  artifact "+string(j))
	}
	for _, list := range [][]spec.Block{s.Drains, s.Migrates, s.Checks, s.Hooks} {
		for i := range list {
			one(&list[i])
		}
	}
	one(s.Install)
	one(s.Start)
	r := s.Rollout
	out = append(out, fmt.Sprintf("  rollout %s canary %d bake %s healthy %s of %s revert %v splay %s windows %d written %v",
		r.MaxParallel, r.Canary, r.Bake, r.MinHealthyTime, r.HealthyDeadline, r.AutoRevert, r.Splay, len(r.Windows), r.Written))
	out = append(out, fmt.Sprintf("  depends_on %v", s.DependsOn))
	return strings.Join(out, "\n")
}

func hostOf(s string) spec.Host {
	h := spec.Host{Labels: map[string]string{}}
	for i, f := range strings.Fields(s) {
		switch k, v, label := strings.Cut(f, "="); {
		case label:
			h.Labels[k] = v
		case i == 0:
			h.Name = f
		case i == 1:
			h.Environment = f
		default:
			h.OS, h.Arch, _ = strings.Cut(f, "/")
		}
	}
	return h
}

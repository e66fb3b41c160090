// Package drydock_test holds the house to its plan: the arrows between
// packages, their names, and what stands at the top.
package drydock_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

type pkg struct {
	ImportPath                string
	Dir                       string
	Imports                   []string
	GoFiles                   []string
	TestImports, XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,GoFiles", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

// rank is how far out a package stands; an arrow points from a higher rank to
// a lower one, or between adapters.
func rank(p string) int {
	switch {
	case p == "drydock/spec":
		return 0
	case p == "drydock/reconcile":
		return 1
	case strings.HasPrefix(p, "drydock/reconcile/"):
		return 2
	case p == "drydock/hostagent":
		return 3
	case strings.HasPrefix(p, "drydock/hostagent/"):
		return 4
	case strings.HasPrefix(p, "drydock/cmd/"):
		return 5
	}
	return -1
}

func TestArrowsPointInwards(t *testing.T) {
	for _, p := range packages(t) {
		from := rank(p.ImportPath)
		if from < 0 {
			if p.ImportPath != "drydock" {
				t.Errorf("%s stands outside the plan", p.ImportPath)
			}
			continue
		}
		for _, i := range p.Imports {
			if !strings.HasPrefix(i, "drydock") {
				continue
			}
			to := rank(i)
			if to > from || to == from && from != 4 {
				t.Errorf("%s imports %s: the arrow points outwards", p.ImportPath, i)
			}
		}
	}
}

// alone are technologies that stand in one package only.
var alone = map[string][]string{
	"github.com/go-git/":       {"drydock/hostagent/gitsource"},
	"go.etcd.io/bbolt":         {"drydock/hostagent/journal"},
	"go.etcd.io/etcd":          {"drydock/hostagent/etcd"},
	"github.com/coreos/":       {"drydock/hostagent/systemd"},
	"github.com/godbus/":       {"drydock/hostagent/systemd"},
	"database/sql":             {"drydock/hostagent/sql"},
	"github.com/pressly/goose": {"drydock/hostagent/sql"},
	"github.com/jackc/":        {"drydock/hostagent/sql"},
	"github.com/go-sql-driver": {"drydock/hostagent/sql"},
	"modernc.org/":             {"drydock/hostagent/sql"},
	"github.com/fsnotify/":     {"drydock/hostagent/wake"},
	"github.com/prometheus/":   {"drydock/hostagent/metrics"},
	"github.com/spf13/cobra":   {"drydock/cmd/hostagent", "drydock/cmd/drydock", "drydock/cmd/demo", "drydock/cmd/hub"},
	"github.com/ProtonMail/":   {"drydock/hostagent/openpgp"},
	"github.com/klauspost/":    {"drydock/hostagent/archive"},
	"github.com/hashicorp/hcl": {"drydock/spec", "drydock/reconcile", "drydock/hostagent", "drydock/cmd/hostagent", "drydock/cmd/drydock"},
}

func TestEachTechnologyStandsInOnePackage(t *testing.T) {
	for _, p := range packages(t) {
		for _, i := range p.Imports {
			for tech, homes := range alone {
				if strings.HasPrefix(i, tech) && !slices.Contains(homes, p.ImportPath) {
					t.Errorf("%s imports %s, whose place is %v", p.ImportPath, i, homes)
				}
			}
		}
	}
}

// TestPureMiddle: spec and reconcile touch no network, process or store.
func TestPureMiddle(t *testing.T) {
	for _, p := range packages(t) {
		if r := rank(p.ImportPath); r < 0 || r > 2 {
			continue
		}
		for _, bad := range []string{"net", "net/http", "os", "os/exec", "os/user", "syscall", "math/rand", "math/rand/v2", "crypto/rand"} {
			if slices.Contains(p.Imports, bad) {
				t.Errorf("%s imports %s; it comes in from outside", p.ImportPath, bad)
			}
		}
	}
}

func TestNoVagueNames(t *testing.T) {
	vague := []string{"util", "utils", "common", "types", "helpers", "errors", "misc", "structs", "interfaces"}
	for _, p := range packages(t) {
		if slices.Contains(vague, path.Base(p.ImportPath)) {
			t.Errorf("%s says nothing about what it holds", p.ImportPath)
		}
	}
}

func TestOnePackageComment(t *testing.T) {
	for _, p := range packages(t) {
		var with []string
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if file.Doc != nil {
				with = append(with, f)
			}
		}
		if len(p.GoFiles) > 0 && len(with) != 1 {
			t.Errorf("%s has package comments in %v; one file says what it is for", p.ImportPath, with)
		}
	}
}

func TestTopLevel(t *testing.T) {
	allowed := []string{"cmd", "spec", "reconcile", "hostagent", "examples", "testdata"}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && e.Name() != "bin" && e.Name() != "dist" && !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s/ is no top-level folder of this house: %v", e.Name(), allowed)
		}
	}
}

// TestAdaptersAreListed: ARCHITECTURE.md's table names each package below
// hostagent once, and none that is not there.
func TestAdaptersAreListed(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for i, name := range strings.Split(cells[1], "`") {
				if i%2 == 1 {
					listed[name]++
				}
			}
		}
	}
	for _, p := range packages(t) {
		name, ok := strings.CutPrefix(p.ImportPath, "drydock/hostagent/")
		if !ok {
			continue
		}
		if listed[name] != 1 {
			t.Errorf("%s stands %d times in ARCHITECTURE.md's table of adapters; once is right", name, listed[name])
		}
		delete(listed, name)
	}
	for name := range listed {
		t.Errorf("ARCHITECTURE.md's table lists %s, which is no adapter", name)
	}
}

// TestOutboundDials: what connects to an address asks hostagent/outbound. The
// others connect to sockets in the file system, or where a credential says.
func TestOutboundDials(t *testing.T) {
	own := []string{"drydock/hostagent/outbound", "drydock/hostagent/api", "drydock/hostagent/notify", "drydock/hostagent/sshsig", "drydock/hostagent/systemd", "drydock/hostagent/sql"}
	for _, p := range packages(t) {
		if slices.Contains(own, p.ImportPath) || p.ImportPath == "drydock/cmd/demo" || !slices.Contains(p.Imports, "net") && !slices.Contains(p.Imports, "net/http") {
			continue
		}
		for _, f := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				of, ok := sel.X.(*ast.Ident)
				name := sel.Sel.Name
				if ok && (of.Name == "net" && strings.HasPrefix(name, "Dial") || of.Name == "http" && slices.Contains([]string{"Get", "Head", "Post", "PostForm", "DefaultClient"}, name)) {
					t.Errorf("%s uses %s.%s; outbound.Dialer judges the address", f, of.Name, name)
				}
				return true
			})
		}
	}
}

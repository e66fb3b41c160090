package spec_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"drydock/spec"
	"github.com/hashicorp/hcl/v2"
)

// Files that end, stall or bloat a process that parses or evaluates HCL
// without looking first. "accepted" ones are as large as they may be.
func bombs() map[string]map[string]string {
	local := func(body string) map[string]string {
		return map[string]string{"prod/l.hcl": "locals {\n" + body + "}\n"}
	}
	doubling := func(first, next string) string {
		var b strings.Builder
		fmt.Fprintf(&b, "  l0 = %s\n", first)
		for i := 1; i <= 24; i++ {
			fmt.Fprintf(&b, "  l%d = %s\n", i, strings.ReplaceAll(next, "@", fmt.Sprintf("local.l%d", i-1)))
		}
		return b.String()
	}
	numbered := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(strings.ReplaceAll(line, "@", strconv.Itoa(i)))
		}
		return b.String()
	}
	tenThousand := "  big = split(\",\", \"a" + strings.Repeat(",a", 9998) + "\")\n"
	fill := func(unit string) string { return strings.Repeat(unit, (250<<10)/len(unit)) }
	out := map[string]map[string]string{
		"parentheses":        local("  a = " + strings.Repeat("(", 80_000) + "1" + strings.Repeat(")", 80_000) + "\n"),
		"brackets":           local("  a = " + fill("[") + "\n"),
		"braces":             {"prod/l.hcl": fill("a{\n")},
		"not":                local("  a = " + fill("!") + "true\n"),
		"minus":              local("  a = " + fill("-") + "1\n"),
		"splats":             local("  l = []\n  a = local.l" + strings.Repeat("[*]", 80_000) + "\n"),
		"attribute splats":   local("  l = []\n  a = local.l" + strings.Repeat(".*", 120_000) + "\n"),
		"sums":               local("  a = 1" + strings.Repeat("+1", 125_000) + "\n"),
		"questions":          local("  a = " + strings.Repeat("true?1:", 35_000) + "1\n"),
		"templates":          local("  a = " + fill(`"${`) + "\n"),
		"for":                local("  r = [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n  a = [for a in local.r: [for b in local.r: [for c in local.r: [for d in local.r: [for e in local.r: [for f in local.r: [for g in local.r: g]]]]]]]\n"),
		"doubling templates": local(doubling(`"0123456789abcdef"`, `"${@}${@}"`)),
		"doubling lists":     local(doubling("[1]", "[@, @]")),
		"doubling concat":    local(doubling("[1, 2]", "concat(@, @)")),
		"doubling maps":      local(doubling(`{ a = "x" }`, "{ a = @, b = @ }")),
		"doubling join":      local(doubling(`"0123456789abcdef"`, `join(@, [@, @, @])`)),
		"doubling replace":   local(doubling(`"0123456789abcdef"`, `replace(@, "", @)`)),
		"doubling numbers":   local(doubling("99999999", "@ * @")),
		"exponent":           local("  a = \"${1e100000000}a\"\n"),
		"exponent in text":   local("  a = \"1e1000000000\" + 1\n"),
		"wide split":         local(doubling(`"0123456789abcdef"`, `join("", split("", "${@}${@}"))`)),
		"expensive splat":    local("  l = split(\"\", \"" + strings.Repeat("x", 9999) + "\")\n  b = \"" + strings.Repeat("y", 60_000) + "\"\n  a = local.l[*][\"${local.b}\"]\n"),
		"many locals":        local(strings.Repeat("  x = 1\n", 30_000)),
		"ten megabytes":      {"prod/l.hcl": strings.Repeat("# comment\n", 1<<20)},
		"json brackets":      {"prod/l.hcl.json": fill("[")},
		"json nesting":       {"prod/l.hcl.json": `{"locals": {"a": ` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}}`},
		"json string":        {"prod/l.hcl.json": `{"locals": {"a": "\u0024{` + fill("!") + `true}"}}`},
		"json key":           {"prod/l.hcl.json": `{"locals": {"a": {"\u0024{` + fill("-") + `1}": 1}}}`},
		"json exponent":      {"prod/l.hcl.json": `{"locals": {"a": 1e100000000, "b": "${local.a}a"}}`},
		"heredocs":           local("  a = " + fill("<<A\n${")),

		"not, between comments":   local("  a = " + strings.Repeat("!/**/", 16_000) + "true\n"),
		"sums, between comments":  local("  a = 1" + strings.Repeat("+1/**/", 10_000) + "\n"),
		"work that goes on":       local(tenThousand + numbered(1500, "  c@ = contains([local.big, local.big], local.big)\n")),
		"names that nobody knows": local(numbered(4500, "  xxxxxxxxxx@ = local.yyyyyyyyyyyyyyyyyyyyyyyy@\n")),
		"services that all work": {"prod/l.hcl": "locals {\n" + tenThousand + "}\n",
			"prod/w.hcl": numbered(600, "service \"s@\" {\n  hosts = { a = contains(local.big, \"y\") ? \"x\" : \"b\" }\n  release { version = \"1\" }\n}\n")},
	}
	// One file cannot hold these.
	chain, moves := map[string]string{}, map[string]string{}
	for f := range 100 {
		var b strings.Builder
		for i := f * 5000; i < (f+1)*5000; i++ {
			fmt.Fprintf(&b, "  l%d = local.l%d\n", i, i+1)
		}
		chain[fmt.Sprintf("prod/l%d.hcl", f)] = "locals {\n" + b.String() + "}\n"
	}
	for f := range 40 {
		var b strings.Builder
		for i := f * 1500; i < (f+1)*1500; i++ {
			fmt.Fprintf(&b, "moved {\n  from = \"m%d\"\n  to = \"m%d\"\n}\n", i, i+1)
		}
		moves[fmt.Sprintf("prod/m%d.hcl", f)] = b.String()
	}
	out["a chain of locals over files"], out["a chain of moves over files"] = chain, moves
	deep := "  l0 = [1]\n"
	for i := 1; i < 3000; i++ {
		deep += fmt.Sprintf("  l%d = [local.l%d]\n", i, i-1)
	}
	out["a deep chain of locals"] = local(deep)
	big := "  b = \"" + strings.Repeat("y", 60_000) + "\"\n"
	for i := range 3000 {
		big += fmt.Sprintf("  l%d = \"${local.b}%d\"\n", i, i)
	}
	out["many large locals"] = local(big)
	calls := "service \"web\" {\n  hosts = {}\n  release { version = \"1\" }\n"
	for i := range 2000 {
		calls += fmt.Sprintf("  run \"r%d\" {\n    after = \"start\"\n    command = [local.b]\n  }\n", i)
	}
	out["many large values"] = map[string]string{"prod/l.hcl": "locals {\n  b = \"" + strings.Repeat("y", 60_000) + "\"\n}\n", "prod/w.hcl": calls + "}\n"}
	return out
}

const bombLimit = 256 << 20 // bytes of memory that a child may come to

// Each bomb is loaded and validated in a process of its own, which is killed
// when it takes more than 256 MiB: a stack overflow cannot be recovered from,
// and memory that one test took would hide what the next one takes.
func TestBombs(t *testing.T) {
	bin := childBinary(t)
	for name, files := range bombs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for p, body := range files {
				p = filepath.Join(dir, p)
				if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(p, []byte(body), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			out := runChild(t, bin, dir)
			if !strings.Contains(out, "ERROR prod/") {
				t.Errorf("no error that names the file:\n%s", out)
			}
			if n := strings.Count(out, "ERROR"); n > 1000 {
				t.Errorf("%d errors: it went on long after the first", n)
			}
		})
	}
}

// childBinary is this test binary, built without the race detector, whose
// shadow memory would count.
func childBinary(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "child")
	if out, err := exec.Command("go", "test", "-c", "-race=false", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

func runChild(t *testing.T, bin, dir string) string {
	t.Helper()
	cmd := exec.Command(bin, "-test.run=^TestBombChild$", "-test.v")
	cmd.Env = append(os.Environ(), "DRYDOCK_BOMB="+dir, "GOMAXPROCS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(60 * time.Second) // a bomb that goes off takes minutes, or all memory
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%v\n%.2000s", err, out.String())
			}
			peak := 0
			if _, s, ok := strings.Cut(out.String(), "PEAK "); ok {
				peak, _ = strconv.Atoi(strings.Fields(s)[0])
			}
			if peak == 0 || peak > bombLimit {
				t.Errorf("peak memory %d bytes", peak)
			}
			return out.String()
		case <-deadline:
			_ = cmd.Process.Kill()
			<-done
			t.Fatal("did not end within 60s")
		case <-look.C:
			if n := resident(cmd.Process.Pid, "VmRSS:"); n > bombLimit {
				_ = cmd.Process.Kill()
				<-done
				t.Fatalf("took %d bytes of memory", n)
			}
		}
	}
}

// resident reads a line of /proc/<pid>/status, in bytes; 0 if there is none.
func resident(pid int, line string) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, rest, ok := strings.Cut(string(status), line)
	if !ok {
		return 0
	}
	kb, _ := strconv.Atoi(strings.Fields(rest)[0])
	return kb << 10
}

// TestBombChild is what TestBombs runs in a process of its own.
func TestBombChild(t *testing.T) {
	dir := os.Getenv("DRYDOCK_BOMB")
	if dir == "" {
		t.Skip("only as a child of TestBombs")
	}
	f, _ := spec.Load("", os.DirFS(dir))
	for _, d := range f.Validate() {
		if d.Subject != nil && d.Severity == hcl.DiagError {
			fmt.Printf("ERROR %s:%d %s\n", d.Subject.Filename, d.Subject.Start.Line, d.Summary)
		}
	}
	f.For(spec.Host{Name: "h", Environment: "prod"})
	fmt.Printf("PEAK %d\n", resident(os.Getpid(), "VmHWM:"))
}

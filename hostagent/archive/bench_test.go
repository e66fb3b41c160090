package archive

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"drydock/reconcile"
	"drydock/spec"
)

// BenchmarkBump is one bump of a 200 kB archive, every fsync in, beside what a
// shell does for it without any.
func BenchmarkBump(b *testing.B) {
	program := make([]byte, 200_000)
	rand.Read(program)
	data := gzipOf(b, tarOf(b, item{name: "bin/app", body: string(program), mode: 0o755}, item{name: "VERSION", body: "1"}))
	artifact := filepath.Join(b.TempDir(), "app.tar.gz")
	if err := os.WriteFile(artifact, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("drydock", func(b *testing.B) {
		path := b.TempDir()
		d := New(reconcile.Env{StateDir: b.TempDir()})
		for i := range b.N {
			v := fmt.Sprint(i)
			s := benchStep(b, path, v, data, artifact)
			for _, s.Phase = range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
				if err := d.Do(b.Context(), s); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("shell", func(b *testing.B) {
		root := b.TempDir()
		for i := range b.N {
			script := fmt.Sprintf("mkdir -p releases/%d && tar xzf %s -C releases/%d && ln -sfn releases/%d current", i, artifact, i, i)
			cmd := exec.CommandContext(b.Context(), "sh", "-c", script)
			cmd.Dir = root
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkObserve is the drift check of one service, by an agent that runs,
// and by one that was just started.
func BenchmarkObserve(b *testing.B) {
	data := gzipOf(b, tarOf(b, web("1")...))
	artifact := filepath.Join(b.TempDir(), "app.tar.gz")
	if err := os.WriteFile(artifact, data, 0o600); err != nil {
		b.Fatal(err)
	}
	env := reconcile.Env{StateDir: b.TempDir()}
	d := New(env)
	s := benchStep(b, b.TempDir(), "1", data, artifact)
	for _, s.Phase = range []reconcile.Phase{reconcile.Fetch, reconcile.Install} {
		if err := d.Do(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
	for name, fresh := range map[string]bool{"running": false, "started": true} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				if fresh {
					d = New(env)
				}
				if c, err := d.Observe(b.Context(), s); err != nil || c.Is != reconcile.Present {
					b.Fatal(c, err)
				}
			}
		})
	}
}

func benchStep(b *testing.B, path, version string, data []byte, artifact string) reconcile.Step {
	b.Helper()
	sum := sha256.Sum256(data)
	config, err := json.Marshal(Config{Path: path, Keep: 5})
	if err != nil {
		b.Fatal(err)
	}
	return reconcile.Step{Service: "web", Block: spec.Block{Type: "install", Driver: "archive", Config: config}, Target: spec.Service{Name: "web",
		Release:  spec.Release{Version: version, Digest: "sha256:" + hex.EncodeToString(sum[:])},
		Artifact: &spec.Artifact{Source: "file://" + artifact}}}
}

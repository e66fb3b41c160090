package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// --fetch hashes what hosts will download, from the same declaration.
func TestFetch(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-Token") != "" {
			t.Error("a header of the source followed a redirect")
		}
		fmt.Fprint(w, "moved 2.0")
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		switch r.URL.Path {
		case "/web/2.0/linux-amd64", "/web/2.0/linux-arm64":
			fmt.Fprint(w, r.URL.Path)
		case "/moved/2.0":
			if r.Header.Get("X-Token") != "s3cret" {
				t.Errorf("token %q", r.Header.Get("X-Token"))
			}
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/loop/2.0":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/login/2.0":
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			fmt.Fprint(w, "<h1>Please sign in</h1>")
		case "/empty/2.0":
		case "/short/2.0":
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, "not all of it")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	for _, kv := range gitTestEnv(t.TempDir()) {
		k, v, _ := strings.Cut(kv, "=")
		t.Setenv(k, v)
	}
	secrets := t.TempDir()
	if err := os.WriteFile(filepath.Join(secrets, "token"), []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := func(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }
	old := sum("")
	for _, tt := range []struct {
		name, digest, source string
		want                 []string
		fails                string
	}{
		{"per platform", `digests = { "linux/amd64" = "` + old + `", "linux/arm64" = "` + old + `" }`, "/web/${release.version}/${host.os}-${host.arch}",
			[]string{`"linux/amd64" = "` + sum("/web/2.0/linux-amd64"), `"linux/arm64" = "` + sum("/web/2.0/linux-arm64")}, ""},
		{"one", `digest = "` + old + `"`, "/moved/${release.version}", []string{`digest = "` + sum("moved 2.0")}, ""},
		{"loop", `digest = "` + old + `"`, "/loop/${release.version}", nil, "redirects more than 5 times"},
		{"a login page", `digest = "` + old + `"`, "/login/${release.version}", nil, "web page"},
		{"nothing", `digest = "` + old + `"`, "/empty/${release.version}", nil, "answers with nothing"},
		{"cut short", `digest = "` + old + `"`, "/short/${release.version}", nil, "broke off"},
		{"not there", `digest = "` + old + `"`, "/none/${release.version}?key=hidden", nil, "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			origin := newOrigin(t, map[string]string{"staging/web.hcl": `service "web" {
  hosts = { role = "web" }
  release {
    version = "1.0"
    ` + tt.digest + `
  }
  artifact {
    source  = "` + server.URL + tt.source + `"
    headers = { X-Token = credential("token") }
  }
  install "archive" {
    path = "/srv/web"
  }
}
`})
			clone := filepath.Join(t.TempDir(), "clone")
			gitIn(t, t.TempDir(), "clone", "--quiet", origin, clone)
			_, stderr, code := drydock(t.Context(), "bump", "web", "-e", "staging", "--version", "2.0", "--fetch", "--credentials", secrets, "-C", clone)
			if strings.Contains(stderr, "s3cret") || strings.Contains(stderr, "hidden") {
				t.Errorf("a secret is shown: %s", stderr)
			}
			if tt.fails != "" {
				if code != 1 || !strings.Contains(stderr, tt.fails) {
					t.Errorf("exit %d, does not say %q: %s", code, tt.fails, stderr)
				}
				return
			}
			got, _ := os.ReadFile(filepath.Join(clone, "staging/web.hcl"))
			for _, w := range tt.want {
				if !strings.Contains(string(got), w) {
					t.Errorf("exit %d: %s\nlacks %s:\n%s", code, stderr, w, got)
				}
			}
		})
	}
}

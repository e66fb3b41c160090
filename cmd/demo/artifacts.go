package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// program is the release's program. It is this binary again: what matters is
// that it is a real process, started from a real release directory.
const program = `#!/bin/sh
exec "$` + envDemo + `" ` + serviceVerb + ` "$DRYDOCK_RELEASE_DIR/release.json"
`

// pack writes a release's archive into dir and returns its path.
func pack(dir string, rel release) (string, error) {
	conf, err := json.MarshalIndent(rel, "", "  ")
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, f := range []struct {
		name string
		mode int64
		body []byte
	}{
		{"web", 0o755, []byte(program)},
		{"release.json", 0o644, append(conf, '\n')},
	} {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.body)), ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return "", err
		}
		if _, err := tw.Write(f.body); err != nil {
			return "", err
		}
	}
	if err := tw.Close(); err != nil {
		return "", err
	}
	if err := zw.Close(); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("web-%s.tar.gz", rel.Version))
	return path, os.WriteFile(path, buf.Bytes(), 0o644)
}

// digestOf is a file's digest as a release block has it.
func digestOf(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data)), nil
}

// artifactServer serves the archives of dir, as a release store does.
func artifactServer(dir string) http.Handler {
	files := http.FileServer(http.Dir(dir))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The bytes are served as they are: the digest covers them.
		w.Header().Set("Content-Type", "application/gzip")
		files.ServeHTTP(w, r)
	})
}

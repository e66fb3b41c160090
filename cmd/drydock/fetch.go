package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"drydock/hostagent/outbound"
	"drydock/spec"
)

// What a download may cost.
const (
	maxArtifact   = 16 << 30
	fetchDeadline = time.Hour
)

// fetchDigests downloads what the service's artifact block names for the wanted
// version, and fills in the digest: one, or one a platform where the source
// depends on the host.
func fetchDigests(ctx context.Context, s streams, t tree, now declared, f bumpFlags, want *spec.Change) error {
	platforms := f.platforms
	if len(platforms) == 0 {
		platforms = slices.Sorted(maps.Keys(now.release.Digests))
	}
	if len(platforms) == 0 {
		platforms = []string{"linux/amd64"}
	}
	digests := map[string]string{}
	sources := map[string]string{} // source -> digest: one source is downloaded once
	for _, p := range platforms {
		a, err := artifactOf(t, now, want.Version, p)
		if err != nil {
			return err
		}
		if sources[a.Source] == "" {
			s.note("downloading %s", redacted(a.Source))
			d, err := hashSource(ctx, a, f.credentials)
			if err != nil {
				return err
			}
			sources[a.Source] = d
		}
		digests[p] = sources[a.Source]
	}
	want.Digest, want.Digests = "", nil
	if len(now.release.Digests) > 0 || len(sources) > 1 {
		want.Digests = digests
	} else {
		want.Digest = digests[platforms[0]]
	}
	return nil
}

// artifactOf is the artifact block as a host of that platform would have it
// once the service is at that version.
func artifactOf(t tree, now declared, version, platform string) (*spec.Artifact, error) {
	osName, arch, ok := strings.Cut(platform, "/")
	if !ok {
		return nil, fmt.Errorf("platform %q: a platform is <os>/<arch>, such as linux/amd64", platform)
	}
	stand := "sha256:" + strings.Repeat("0", 64)
	content, err := spec.Bump(now.content, now.path, now.service, spec.Change{Version: version, Digests: map[string]string{platform: stand}})
	if err != nil {
		return nil, inFile(err, now.path, content)
	}
	fleet, _ := spec.Load("", overlay{t.files(), now.path, content})
	services, _ := fleet.Services(now.environment)
	labels := map[string]string{}
	for _, d := range services {
		if d.Name == now.service {
			for k, v := range d.Hosts {
				if len(v) > 0 {
					labels[k] = v[0]
				}
			}
		}
	}
	w, diags := fleet.For(spec.Host{Name: "any", OS: osName, Arch: arch, Labels: labels, Environment: now.environment})
	for _, svc := range w.Services {
		if svc.Name == now.service {
			if svc.Artifact == nil {
				return nil, errors.New("the service has no artifact block to fetch from: give --digest or --artifact")
			}
			return svc.Artifact, nil
		}
	}
	if held := w.Held[now.service]; held.HasErrors() {
		diags = held
	}
	return nil, &fileError{diags, fleet.Files()}
}

// overlay is a tree in which one file has another content.
type overlay struct {
	fs.FS
	name    string
	content []byte
}

func (o overlay) Open(name string) (fs.File, error) {
	f, err := o.FS.Open(name)
	if err != nil || name != o.name {
		return f, err
	}
	return overlaid{f, bytes.NewReader(o.content)}, nil
}

type overlaid struct {
	fs.File
	content *bytes.Reader
}

func (o overlaid) Read(p []byte) (int, error) { return o.content.Read(p) }

func hashSource(ctx context.Context, a *spec.Artifact, credentials string) (string, error) {
	u, err := url.Parse(a.Source)
	if err != nil {
		return "", fmt.Errorf("%s: the source is no URL: %w", a.Origin, err)
	}
	switch u.Scheme {
	case "file":
		return hashFile(ctx, u.Path)
	case "https", "http":
	default:
		return "", fmt.Errorf("%s: --fetch cannot download from %s:// here: give --digest or --artifact", a.Origin, u.Scheme)
	}
	ctx, cancel := context.WithTimeout(ctx, fetchDeadline)
	defer cancel()
	client := outbound.NewClient(nil)
	defer client.CloseIdleConnections()
	resp, err := client.Get(ctx, a.Source, func(req *http.Request, first bool) error {
		if !first {
			return nil // the headers are the source's own secrets
		}
		for name, v := range a.Headers {
			value := v.Value
			if v.Credential != "" {
				var err error
				if value, err = credential(credentials, v.Credential); err != nil {
					return err
				}
			}
			req.Header.Set(name, value)
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("%s: the artifact could not be downloaded: %w", a.Origin, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s answers %s: has the build of this version been published?", a.Origin, redacted(a.Source), resp.Status)
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		return "", fmt.Errorf("%s: %s answers with a web page, most likely a login: the artifact itself is needed", a.Origin, redacted(a.Source))
	}
	counted := &io.LimitedReader{R: resp.Body, N: maxArtifact}
	d, err := hashReader(ctx, counted)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: the download broke off: %w", a.Origin, err)
	case counted.N <= 0:
		return "", fmt.Errorf("%s: the artifact is larger than 16 GiB", a.Origin)
	case counted.N == maxArtifact:
		return "", fmt.Errorf("%s: %s answers with nothing: the build that published it has failed", a.Origin, redacted(a.Source))
	}
	return d, nil
}

func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the source"
	}
	if u.User != nil {
		u.User = url.User("…")
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.String()
}

// credential reads what a host reads from its credentials directory.
func credential(dir, name string) (string, error) {
	if dir == "" {
		dir = os.Getenv("CREDENTIALS_DIRECTORY")
	}
	if dir == "" {
		return "", fmt.Errorf("the download needs credential %q: name the directory that holds it with --credentials", name)
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("credential %q could not be read: %w", name, err)
	}
	return strings.TrimSpace(string(data)), nil
}

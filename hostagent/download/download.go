// Package download fetches an artifact to a file: from its source, then from
// each mirror, taking up what an earlier try left, until the digest over the
// whole file is the release's. Nothing that a server says is believed but the
// bytes, and those only by their digest; so every error is the host's or the
// provider's, never the release's.
package download

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"drydock/hostagent/durable"
	"drydock/hostagent/outbound"
	"drydock/reconcile"
	"drydock/spec"
)

// Options of a Fetcher; the zero value of each field is its default.
type Options struct {
	Roots      *x509.CertPool                           // default: the system's
	Credential func(name string) (string, error)        // as reconcile.Env has it
	Private    string                                   // directory that file:// never reads below
	MaxBytes   int64                                    // of an artifact; default 4 GiB
	Stall      time.Duration                            // in each such time a KiB a second must arrive, or all that is left; default 30 s
	Timeout    time.Duration                            // of one try of one source; default 1 h
	Free       func(dir string) (bytes uint64, ok bool) // free space; default asks the filesystem
}

// Fetcher downloads artifacts. It keeps no state between calls but the partial
// files beside their destinations.
type Fetcher struct {
	Options
	client *outbound.Client
}

// New makes a Fetcher.
func New(o Options) *Fetcher {
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 30
	}
	if o.Stall == 0 {
		o.Stall = 30 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = time.Hour
	}
	if o.Free == nil {
		o.Free = freeSpace
	}
	return &Fetcher{Options: o, client: outbound.NewClient(o.Roots)}
}

// Close ends idle connections.
func (f *Fetcher) Close() { f.client.CloseIdleConnections() }

var sha256Digest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Get puts the artifact with that digest ("sha256:<64 hex>") at dest. What a
// failed try received stays in dest+".part" for the next one. The directory
// must be the agent's own. The file is not fsynced: its digest is what proves it.
func (f *Fetcher) Get(ctx context.Context, a spec.Artifact, digest, dest string) error {
	if !sha256Digest.MatchString(digest) {
		return reconcile.HostFault(fmt.Errorf("digest %q is not sha256:<64 hex digits>", digest),
			"An artifact needs one: bump with --artifact or --digest")
	}
	want := strings.TrimPrefix(digest, "sha256:")
	if sum, err := hashOf(ctx, dest); err == nil && sum == want {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dest), 0o700); err != nil {
		return durable.HostFault(err)
	}
	var failed []error
	for i, raw := range append([]string{a.Source}, a.Mirrors...) {
		t := &try{f: f, raw: raw, want: want, dest: dest}
		if i == 0 {
			t.headers = a.Headers
		}
		err := t.run(ctx)
		if err == nil {
			return nil
		}
		var disk *diskError
		switch {
		case ctx.Err() != nil:
			return reconcile.HostFault(fmt.Errorf("%s: %w", Redact(raw), context.Cause(ctx)), "It goes on where it stopped")
		case errors.As(err, &disk): // no mirror makes room
			return durable.HostFault(disk.error)
		}
		failed = append(failed, fmt.Errorf("%s: %w", Redact(raw), err))
	}
	return blame(failed)
}

// blame makes one fault of what every source said, with the hint that fits the first.
func blame(failed []error) error {
	err := failed[0]
	if len(failed) > 1 {
		var all []string
		for _, e := range failed {
			all = append(all, e.Error())
		}
		err = &manyError{"neither source nor mirrors worked: " + strings.Join(all, "; "), failed}
	}
	hint := "The next try goes on where this one stopped"
	var h *hinted
	if errors.As(failed[0], &h) {
		hint = h.hint
	}
	return reconcile.HostFault(err, hint)
}

type manyError struct {
	text string
	all  []error
}

func (e *manyError) Error() string   { return e.text }
func (e *manyError) Unwrap() []error { return e.all }

// hinted is an error that knows what the reader can do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

func hint(h, format string, args ...any) error { return &hinted{fmt.Errorf(format, args...), h} }

// diskError is a fault of this machine's disk.
type diskError struct{ error }

func (e *diskError) Unwrap() error { return e.error }

// Redact is a URL without what may be secret: user and password, the values of
// its query, and the fragment.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(a URL that does not parse)"
	}
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	if u.RawQuery != "" {
		var kept []string
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			name, _, has := strings.Cut(pair, "=")
			if has {
				name += "=redacted"
			} else {
				name = "redacted"
			}
			kept = append(kept, name)
		}
		u.RawQuery = strings.Join(kept, "&")
	}
	return u.String()
}

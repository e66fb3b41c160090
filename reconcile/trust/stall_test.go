package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"
)

// counting is a history that knows how often it was read, and does not open
// files that are too large, as a store may.
type counting struct {
	*repo
	opened int
	large  string
}

type countingFS struct {
	fs.FS
	c *counting
}

func (c *counting) Tree(ctx context.Context, h string) (fs.FS, error) {
	t, err := c.repo.Tree(ctx, h)
	return countingFS{t, c}, err
}

func (f countingFS) Open(name string) (fs.File, error) {
	f.c.opened++
	if name == f.c.large {
		return nil, errors.New("too large for this store")
	}
	return f.FS.Open(name)
}

type largeInfo struct{ fs.FileInfo }

func (largeInfo) Size() int64 { return 1 << 30 }

func (f countingFS) Stat(name string) (fs.FileInfo, error) {
	info, err := fs.Stat(f.FS, name)
	if name == f.c.large && err == nil {
		return largeInfo{info}, nil
	}
	return info, err
}

// Who may not make a commit cannot make a host read all of it.
func TestRefusalCostsLittle(t *testing.T) {
	for name, o := range map[string]option{"unsigned": unsigned(), "by somebody who may less": ci} {
		t.Run(name, func(t *testing.T) {
			c := &counting{repo: newRepo(t)}
			base := world(c.repo)
			edits := files{}
			for i := range 500 {
				edits[fmt.Sprintf("prod/s%d.hcl", i)] = service(fmt.Sprint("s", i), "1")
			}
			head := c.on(base, edits, o)
			j := c.judge()
			j.History = c
			var b *Blocker
			if _, err := j.Judge(context.Background(), base, head, noon); !errors.As(err, &b) {
				t.Fatal(err)
			}
			if c.opened > 2*maxUnmet {
				t.Errorf("%d files were opened", c.opened)
			}
			if _, err := (&Judge{Policy: policy(), Keys: &ring{}, History: c}).Judge(context.Background(), base, c.on(base, edits), noon); err != nil {
				t.Errorf("by who may: %v", err)
			}
		})
	}
}

// A file that no store opens is a file that is too large, not a fault of the
// store that would hide who is to blame.
func TestLargeFileHasABlocker(t *testing.T) {
	c := &counting{repo: newRepo(t), large: "prod/web.hcl"}
	base := world(c.repo)
	j := c.judge()
	j.History = c
	var b *Blocker
	if _, err := j.Judge(context.Background(), base, c.on(base, files{"prod/web.hcl": "# large\n"}, ci), noon); !errors.As(err, &b) || !strings.Contains(err.Error(), "too large") && !strings.Contains(err.Error(), "could not be read") {
		t.Fatal(err)
	}
	// Nor does one among the places where a release may run.
	c.large = "staging/web.hcl"
	promoted := c.on(base, files{"prod/web.hcl": service("web", "1.2")}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.2"))
	if _, err := j.Judge(context.Background(), base, promoted, noon); !errors.As(err, &b) {
		t.Fatal(err)
	}
}

// A link where a service once stood is no place where it runs.
func TestPromotionFromALink(t *testing.T) {
	r := newRepo(t)
	base := r.on(world(r), files{"staging/web.hcl": link})
	head := r.on(base, files{"prod/web.hcl": service("web", "1.2")}, by("promoter@acme"), promotion("prod", "web", "1.1", "1.2"))
	var b *Blocker
	if _, err := r.judge().Judge(context.Background(), base, head, noon); !errors.As(err, &b) || b.Fault != NotAllowed {
		t.Fatal(err)
	}
}

// Vouches that count for nothing are looked at so often, and no more.
func TestManyVouches(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	bad := r.on(base, files{"README.md": "x"}, unsigned())
	head := bad
	for range maxVouches + 50 {
		head = r.on(head, nil, by("stranger"), vouching(bad))
	}
	j := r.judge()
	keys := &ring{}
	j.Keys = keys
	var b *Blocker
	if _, err := j.Judge(context.Background(), base, head, noon); !errors.As(err, &b) || b.Commit != bad || keys.asked > maxVouches {
		t.Fatalf("%d: %v", keys.asked, err)
	}
}

// The store's faults are the store's.
func TestStoreErrors(t *testing.T) {
	r := newRepo(t)
	base := world(r)
	head := r.on(base, files{"staging/web.hcl": service("web", "1.3")}, ci)
	for name, h := range map[string]History{
		"order":  disordered{r},
		"trees":  broken{r},
		"commit": lost{r, head},
	} {
		var b *Blocker
		j := r.judge()
		j.History = h
		_, err := j.Judge(context.Background(), base, r.on(head, nil), noon.Add(time.Hour))
		if err == nil || errors.As(err, &b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type disordered struct{ *repo }

func (d disordered) Between(ctx context.Context, a, h string) ([]string, error) {
	all, err := d.repo.Between(ctx, a, h)
	for i := range len(all) / 2 {
		all[i], all[len(all)-1-i] = all[len(all)-1-i], all[i]
	}
	return append(all, h), err
}

type broken struct{ *repo }

func (broken) Tree(context.Context, string) (fs.FS, error) { return nil, errNoObject }

type lost struct {
	*repo
	h string
}

func (l lost) Commit(ctx context.Context, h string) ([]byte, error) {
	if h == l.h {
		return nil, errNoObject
	}
	return l.repo.Commit(ctx, h)
}

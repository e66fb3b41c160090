// Package gitsource follows one branch of a git repository: it lists refs,
// fetches only what is new into a bare clone of its own, proves every object
// by its hash, and shows commits as file systems. It needs no git binary and
// never checks anything out.
package gitsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"drydock/hostagent/durable"

	"github.com/go-git/go-git/v5/plumbing"
)

// Options say what to follow and how far to trust it.
type Options struct {
	URL     string   // https, ssh, git or file URL, user@host:path, or a path
	Mirrors []string // asked in order after URL
	Branch  string   // default "main"; a full name such as refs/heads/main also works
	Dir     string   // the agent's bare clone, kept for years; made if it is not there

	// Token is sent to URL's own host only, and only over TLS or to loopback:
	// as the password of HTTP basic, or as a bearer token if the server asks
	// for that. "user:password" sets both. It is read anew for each session.
	Token      func() (string, error)
	SSHKey     string // file of an OpenSSH private key without passphrase, for all ssh mirrors
	KnownHosts string // file; default ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts
	CA         string // file of PEM certificates, besides the system's

	Timeout      time.Duration // without a byte, and of a listing of refs as a whole; default 60s
	FetchTimeout time.Duration // of one fetch as a whole; default 10 times Timeout
	MaxPack      int64         // bytes of one fetched pack; default 512 MiB
	MaxObject    int64         // bytes of one tree, commit or delta; default 64 MiB
	MaxFile      int64         // bytes of one file that FS reads; default 256 KiB

	Now func() time.Time // default time.Now
}

// ahead is how far before this host's clock a commit may be dated.
const ahead = 10 * time.Minute

// quietly is for how long a mirror that failed is left alone while URL works.
const quietly = 10 * time.Minute

// Snapshot is one commit, whole and proved.
type Snapshot struct {
	Commit string    // full hash
	Time   time.Time // when it was committed, as it claims
	FS     fs.FS     // its files, out of git objects; see [Object] for Sys
	URL    string    // the mirror that named it, without password; "" out of the clone
}

// Source follows one branch. Its methods may be called side by side.
type Source struct {
	o       Options
	remotes []remote
	http    *http.Client

	fetching sync.Mutex // one Head at a time

	mu     sync.RWMutex
	clone  *clone
	broken error // why the clone cannot be used, or nil
	proved plumbing.Hash
	failed map[string]time.Time // mirror -> when it failed last

	history *History
}

// Open prepares a source. It does not touch the network. A damaged clone is no
// error here: Head clones anew.
func Open(o Options) (*Source, error) {
	o.Branch = cmp.Or(o.Branch, "main")
	if !strings.HasPrefix(o.Branch, "refs/") {
		o.Branch = "refs/heads/" + o.Branch
	}
	o.Timeout = cmp.Or(o.Timeout, 60*time.Second)
	o.FetchTimeout = cmp.Or(o.FetchTimeout, 10*o.Timeout)
	o.MaxPack = cmp.Or(o.MaxPack, 512<<20)
	o.MaxObject = cmp.Or(o.MaxObject, maxObject)
	o.MaxFile = cmp.Or(o.MaxFile, maxFile)
	if o.Now == nil {
		o.Now = time.Now
	}
	if !validRef(o.Branch) {
		return nil, fmt.Errorf("source: branch %q is not a branch's name", o.Branch)
	}
	if o.URL == "" || o.Dir == "" {
		return nil, errors.New("source: no url, or no directory for the clone")
	}
	s := &Source{o: o, failed: map[string]time.Time{}}
	s.history = s.newHistory()
	var err error
	if s.http, err = httpClient(o); err != nil {
		return nil, err
	}
	for i, raw := range append([]string{o.URL}, o.Mirrors...) {
		r, err := newRemote(raw, s, i == 0)
		if err != nil {
			return nil, err
		}
		s.remotes = append(s.remotes, r)
	}
	if err := s.finishSwap(); err != nil {
		return nil, err
	}
	if s.clone, err = openClone(o.Dir, o.MaxObject); err != nil && !errors.Is(err, ErrCorrupt) {
		return nil, fmt.Errorf("source: %w", err)
	}
	s.broken = err
	return s, nil
}

// Close ends all handles and idle connections.
func (s *Source) Close() error {
	s.http.CloseIdleConnections()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clone == nil || s.clone.objects == nil {
		return nil
	}
	return s.clone.objects.close()
}

func (s *Source) current() (*clone, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.broken != nil {
		return s.clone, fail(ErrCorrupt, "the clone %s is damaged (%w); it is cloned anew as soon as the source answers", s.o.Dir, s.broken)
	}
	return s.clone, nil
}

// damage notes that the clone cannot be trusted any more, if err says so.
func (s *Source) damage(c *clone, err error) {
	// What is proved and makes no sense is what the server has, and no damage:
	// a clone made anew would hold the same.
	if !errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMalformed) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clone == c && s.broken == nil {
		s.broken = err
		s.proved = plumbing.ZeroHash
		c.mark(err)
	}
}

// At is an older commit out of the clone. It does not touch the network.
func (s *Source) At(ctx context.Context, commit string) (Snapshot, error) {
	h, err := parseHash(commit)
	if err != nil {
		return Snapshot{}, err
	}
	c, err := s.usable()
	if err != nil {
		return Snapshot{}, err
	}
	if !c.objects.has(h) {
		return Snapshot{}, fail(ErrUnknown, "commit %s is not in the clone %s; it must be reachable from the branch", commit, s.o.Dir)
	}
	head, err := c.verify(h)
	if err != nil {
		s.damage(c, err)
		return Snapshot{}, fmt.Errorf("commit %s in the clone %s: %w", commit, s.o.Dir, err)
	}
	return s.snapshot(head, ""), nil
}

// usable is the clone even if some of it is damaged: what still proves itself
// by its hash can be read while the source is away.
func (s *Source) usable() (*clone, error) {
	c, err := s.current()
	if c != nil && c.objects != nil {
		return c, nil
	}
	return nil, err
}

func (s *Source) snapshot(c Commit, url string) Snapshot {
	return Snapshot{
		Commit: c.Hash, Time: c.Committer.Time, URL: url,
		FS: &treeFS{from: (*proven)(s), root: c.tree, time: c.Committer.Time, limit: s.o.MaxFile},
	}
}

// Commit reads one commit of the clone, for logs and messages.
func (s *Source) Commit(hash string) (Commit, error) {
	h, err := parseHash(hash)
	if err != nil {
		return Commit{}, err
	}
	c, err := s.usable()
	if err != nil {
		return Commit{}, err
	}
	return c.objects.commit(h)
}

// Accept makes commit the high-water mark, durably: no head that does not
// descend from it is ever returned again. It must descend from the last one.
func (s *Source) Accept(ctx context.Context, commit string) error {
	s.fetching.Lock()
	defer s.fetching.Unlock()
	h, err := parseHash(commit)
	if err != nil {
		return err
	}
	c, err := s.usable()
	if err != nil {
		return err
	}
	last, err := c.ref(refAccepted)
	if err != nil {
		return s.lostMark(err)
	}
	if last == commit {
		return nil
	}
	if _, err := c.objects.commit(h); err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	if last != "" {
		if err := descends(ctx, c, plumbing.NewHash(last), h, s.o.Branch); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	return c.setRef(refAccepted, commit)
}

// Accepted is the high-water mark, or "" before the first.
func (s *Source) Accepted() (string, error) {
	s.mu.RLock()
	c := s.clone
	s.mu.RUnlock()
	hash, err := c.ref(refAccepted)
	if err != nil {
		return "", s.lostMark(err)
	}
	return hash, nil
}

func (s *Source) lostMark(err error) error {
	return fail(ErrCorrupt, "the accepted commit on record cannot be read: %w. Write its hash into %s, or remove that file to take the branch on trust as a new host does", err, filepath.Join(s.o.Dir, refAccepted))
}

// Ancestor reports whether old is new or one of its ancestors; both are full
// hashes of commits in the clone.
func (s *Source) Ancestor(ctx context.Context, old, new string) (bool, error) {
	a, err := parseHash(old)
	if err != nil {
		return false, err
	}
	b, err := parseHash(new)
	if err != nil {
		return false, err
	}
	c, err := s.usable()
	if err != nil {
		return false, err
	}
	if !c.objects.has(b) {
		return false, fail(ErrUnknown, "commit %s is not in the clone %s", new, s.o.Dir)
	}
	return c.objects.ancestor(ctx, a, b)
}

// proven reads objects for a snapshot through whatever clone stands in place
// now: one that was healed or repacked meanwhile has the same objects.
type proven Source

func (p *proven) use(read func(c *clone) error) error {
	s := (*Source)(p)
	c, err := s.usable()
	if err != nil {
		return err
	}
	if err = read(c); err != nil {
		s.damage(c, err)
	}
	return err
}

func (p *proven) tree(h plumbing.Hash) (t tree, err error) {
	err = p.use(func(c *clone) error { t, err = c.objects.tree(&c.trees, h); return err })
	return t, err
}

func (p *proven) blob(h plumbing.Hash, limit int64) (data []byte, err error) {
	err = p.use(func(c *clone) error { data, err = c.objects.blob(h, limit); return err })
	return data, err
}

func (p *proven) size(h plumbing.Hash) (size int64, err error) {
	err = p.use(func(c *clone) error { _, size, err = c.objects.stat(h); return err })
	return size, err
}

// rebuilt and finishSwap: a new clone is made beside the damaged one and takes
// its place only when it is whole, so that whatever happens on the way, what
// could still be read before can still be read.

func (s *Source) next() string { return s.o.Dir + ".next" }

// finishSwap ends a swap that was cut short between its two renames.
func (s *Source) finishSwap() error {
	if _, err := os.Stat(filepath.Join(s.next(), "complete")); err != nil {
		return nil
	}
	return s.swap()
}

func (s *Source) swap() error {
	if _, err := os.Lstat(s.o.Dir); err == nil {
		aside := s.o.Dir + ".corrupt-" + s.o.Now().UTC().Format("20060102T150405Z")
		for i := 2; ; i++ {
			if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
				break
			}
			aside = fmt.Sprintf("%s.corrupt-%s-%d", s.o.Dir, s.o.Now().UTC().Format("20060102T150405Z"), i)
		}
		if err := os.Rename(s.o.Dir, aside); err != nil {
			return fmt.Errorf("source: setting the damaged clone aside: %w", err)
		}
	}
	if err := os.Rename(s.next(), s.o.Dir); err != nil {
		return fmt.Errorf("source: putting the new clone in place: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(s.o.Dir)); err != nil {
		return err
	}
	return s.pruneAside()
}

// pruneAside keeps the three newest clones that were set aside: a failing disk
// must not fill itself.
func (s *Source) pruneAside() error {
	old, err := filepath.Glob(globEscape(s.o.Dir) + ".corrupt-*")
	if err != nil || len(old) <= 3 {
		return err
	}
	slices.Sort(old)
	var errs []error
	for _, dir := range old[:len(old)-3] {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

func globEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}
